"""Optional packages, imported when they are needed; one that is missing is one line that says how to get it."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from modules.system.errors import UserError

SPEECH_REQUIREMENTS = "requirements-augment.txt"


def optional_package(name: str, purpose: str, otherwise: str, requirements: str = SPEECH_REQUIREMENTS) -> ModuleType:
    """Import a package.

    Args:
        purpose: what needs it, the beginning of the error's sentence.
        otherwise: what to do without it.
        requirements: file that lists it.
    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise _missing(name, purpose, otherwise, requirements) from error


def check_package(name: str, purpose: str, otherwise: str, requirements: str = SPEECH_REQUIREMENTS) -> None:
    """Look whether a package can be imported, without importing it; arguments and error as of `optional_package`."""
    if not is_installed(name):
        raise _missing(name, purpose, otherwise, requirements)


def _missing(name: str, purpose: str, otherwise: str, requirements: str) -> UserError:
    return UserError(
        f"{purpose} needs the package {name}; pip install -c constraints.txt -r {requirements}, or {otherwise}"
    )


def is_installed(name: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return find_spec(name) is not None
