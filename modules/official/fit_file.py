"""The original's files of fitted faces (NAME_coeff_fit_mp.npy), read without executing what they say.

See docs/spec/face3d.md#6.

NumPy stores the dictionary in such a file as a pickle. The reader here knows three names, those of a plain array, and
each builds an inert record; every other name is refused.
"""

import math
import pickle  # noqa: S403  (only ever read through the restricted reader below)
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from modules.face3d.coefficients import FaceCoefficients
from modules.system.errors import UserError

KEYS = {"id": "identity", "exp": "expression", "euler": "euler", "trans": "translation"}  # theirs -> ours
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2


class FitFileError(ValueError):
    """The bytes are no fitted face."""


class _Kind:
    """Stands for a NumPy dtype: plain numbers, or "O" for the array around the dictionary."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1|O8?", code):
            raise FitFileError(f"an array of {code!r}, which is no plain number")
        self.code, self.order = code, "="

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise FitFileError("numbers of an unknown byte order")
        self.order = state[1]


class _Array:
    """Stands for a NumPy array."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.content: Any = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Kind):
            raise FitFileError("an array in an unknown form")
        _, shape, kind, column_major, content = state
        if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise FitFileError(f"an array of impossible shape {shape}")
        self.shape = shape
        if kind.code[0] == "O":
            self.content = content
            return
        dtype = np.dtype(kind.order.replace("|", "=") + kind.code)
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * dtype.itemsize:
            raise FitFileError(f"an array of shape {shape} that does not hold as many numbers")
        self.content = np.frombuffer(content, dtype).reshape(shape, order="F" if column_major else "C")


class _Reader(pickle.Unpickler):
    """A pickle reader for which only plain arrays exist."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _throw_away(lambda *_: _Array())
        if (module, name) == ("numpy", "dtype"):
            return _throw_away(_Kind)
        if (module, name) == ("numpy", "ndarray"):
            return name
        raise FitFileError(f"it asks for {module}.{name}, which is no array")


def _throw_away(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of its own for each request, so that a file that sets attributes on it reaches nothing else."""
    return lambda *arguments: function(*arguments)


def read_official_fit(path: Path) -> FaceCoefficients:
    """Coefficients of the Basel face model that the original fitted to a photo (T = 1) or clip.

    Returns:
        T rows, float32, on the CPU.
    Raises:
        UserError: no such file, or anything else in it than the arrays id, exp, euler and trans.
    """
    try:
        with path.open("rb") as file:
            content = _dictionary(file)
        fields = {ours: _float(content, theirs) for theirs, ours in KEYS.items()}
        return FaceCoefficients(**fields)
    except FileNotFoundError as error:
        raise UserError(f"no file {path}; give a NAME_coeff_fit_mp.npy of the original") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        EOFError,
        OSError,
        MemoryError,
        OverflowError,
        RecursionError,
        pickle.UnpicklingError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} is no file of fitted faces of the original ({reason}); give a NAME_coeff_fit_mp.npy"
        ) from error


def _dictionary(file: BinaryIO) -> dict:
    """The one item of the array in a .npy file."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if shape != () or dtype.kind != "O":
        raise FitFileError(f"an array of {dtype} and shape {shape} instead of a dictionary")
    array = _Reader(file).load()
    content = array.content if isinstance(array, _Array) else None
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], dict):
        raise FitFileError("no dictionary in it")
    return content[0]


def _float(content: dict, key: str) -> torch.Tensor:
    array = content.get(key)
    if not isinstance(array, _Array) or not isinstance(array.content, np.ndarray):
        raise FitFileError(f"it has no array {key}; it holds {', '.join(map(str, list(content)[:8]))}")
    if not np.isfinite(array.content).all():
        raise FitFileError(f"{key} holds a number that is not finite")
    return torch.from_numpy(array.content.astype(np.float32))
