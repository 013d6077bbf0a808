"""Files that appear whole or not at all, with the permissions of any new file, and never in place of an input."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modules.system.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`: it replaces `path` at the end of the `with`, or is deleted after an error.

    The folder is made if it is not there; several processes may write the same file. Whatever the writer did with the
    temporary file, the new one has the permissions that the user's umask asks for.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.unlink(missing_ok=True)
        part.touch()
        mode = part.stat().st_mode & 0o777
        yield part
        part.chmod(mode)  # some writers (safetensors) put a private file of their own in its place
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


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths name one file: links, hard links, and names that differ in letter case alone count as one."""
    if os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second):
        return True
    return os.path.realpath(first).casefold() == os.path.realpath(second).casefold()  # one file on some disks


def keep_inputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read, or to write two things into one file.

    Args:
        outputs: what a command writes, files or whole folders, by what the user calls it ("--output"); None: nothing.
        inputs: what it reads, likewise.
    Raises:
        UserError: naming both.
    """
    written = [(name, path) for name, path in outputs.items() if path is not None]
    read = [(name, path) for name, path in inputs.items() if path is not None]
    for number, (name, path) in enumerate(written):
        for other, kept in [*read, *written[:number]]:
            if same_file(path, kept) or Path(os.path.realpath(path)) in Path(os.path.realpath(kept)).parents:
                raise UserError(f"{name} {path} would replace {other} {kept}; give {name} another name")
