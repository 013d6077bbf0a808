"""A sound on disk, of which any part can be read again: speech of hours in the memory of some seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO

import numpy as np

from modules.media.audio import mono_pieces
from modules.system.errors import UserError


class StoredSound:
    """Samples [N] float32 of a file; a slice of it (with step 1) is an array of its own.

    Args:
        file: that holds nothing but the samples.
        length: N.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._length = file, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> np.ndarray:
        first, last, step = part.indices(self._length)
        if step != 1:
            raise ValueError(f"step is {step}; a stored sound is read forwards, sample by sample")
        self._file.seek(first * np.dtype(np.float32).itemsize)
        return np.fromfile(self._file, np.float32, max(0, last - first))


@contextmanager
def stored_mono(path: Path, rate: int) -> Iterator[StoredSound]:
    """What `read_mono` gives of a file, in a temporary file of 4 bytes a sample that is gone with the block.

    Raises:
        UserError: what `read_mono` refuses, or the disk is full.
    """
    with TemporaryFile(buffering=0) as file:  # so that nothing is left to be written when it is closed
        length = 0
        for piece in mono_pieces(path, rate):
            _write(file, piece, path.name)
            length += len(piece)
        yield StoredSound(file, length)


def _write(file: BinaryIO, piece: np.ndarray, name: str) -> None:
    """Append samples of the sound `name`; a disk that fills up takes a part of them first, and then tells."""
    data = memoryview(np.ascontiguousarray(piece, np.float32)).cast("B")
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as error:
        raise UserError(
            f"the sound of {name} cannot be kept in {gettempdir()} ({error.strerror or error}); free some space there, "
            "or name another folder by TMPDIR"
        ) from error
