"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modules.system.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`: it replaces `path` at the end of the `with`, or is deleted after an error.

    The folder is made if it is not there; several processes may write the same file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def named_file(path: Path) -> Iterator[Path]:
    """`whole_file` for a path that the user gave.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    try:
        with whole_file(path) as part:
            yield part
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error
