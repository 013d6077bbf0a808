"""Clips in a few large files: tar archives as WebDataset reads them, each with an index by which a clip is found.

    shard-1a2b3c4d5e6f.tar     for each clip NUMBER.FILE, such as 00000004.video.mp4, and NUMBER.json with its name
    shard-1a2b3c4d5e6f.json    where each file of each clip begins in the archive, and its size

A clip in a shard has a path like any other, FOLDER/shard-1a2b3c4d5e6f.tar/NAME, and files under it; the functions here
open both kinds, and those of shards in object storage, where FOLDER stands for an address (modules/clips/store.py). The
index is written first and the archive is renamed last, so that a shard is whole or not there. The index also holds what
a training asks of all clips before it begins (modules/clips/summary.py).
"""

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from modules.clips.store import is_local_copy, open_stored, stored_shards, stored_size
from modules.system.errors import UserError
from modules.system.files import whole_file

SHARD_SUFFIX = ".tar"
SHARDS = f"shard-*{SHARD_SUFFIX}"
SHARD_VERSION = 1
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}  # by version
Places = Mapping[str, tuple[int, int]]  # file -> first byte in the archive, bytes


@dataclass(frozen=True)
class ShardIndex:
    """What the index of a shard says.

    Attributes:
        places: where the files of each clip are.
        summaries: of each clip, what is asked of all before a training; empty in shards that were written without.
    """

    places: Mapping[str, Places]
    summaries: Mapping[str, Mapping[str, Any]]


def has_file(path: Path) -> bool:
    """Whether a file of a clip is there.

    Raises:
        UserError: the index of a shard is damaged.
    """
    shard = _shard_of(path)
    return path.is_file() if shard is None else path.name in _index(shard).places.get(path.parent.name, {})


def open_file(path: Path) -> BinaryIO:
    """A file of a clip, to be read.

    Raises:
        OSError: it is not there or cannot be read.
        UserError: the index of a shard is damaged.
    """
    shard = _shard_of(path)
    if shard is None:
        return path.open("rb")
    return io.BufferedReader(_Part(*_opened(shard, path)))


def map_array(path: Path) -> np.ndarray:
    """An array (.npy) of a clip, mapped from disk.

    Raises:
        OSError, ValueError, KeyError: it is not there or damaged.
        UserError: the index of a shard is damaged, or a store fails.
    """
    shard = _shard_of(path)
    if shard is None:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    file, first, _ = _opened(shard, path)
    with file:
        file.seek(first)
        shape, by_column, kind = _HEADERS[np.lib.format.read_magic(file)](file)
        if kind.hasobject:
            raise ValueError("an array of objects")
        return np.memmap(file, dtype=kind, mode="r", offset=file.tell(), shape=shape, order="F" if by_column else "C")


def on_disk(path: Path) -> Path:
    """The file on disk that holds a file of a clip: itself, its shard, or the index of a shard in a store."""
    shard = _shard_of(path)
    return path if shard is None else shard if shard.is_file() else shard.with_suffix(".json")


def not_packed(path: Path) -> Path:
    """A file of a clip that may be written.

    Raises:
        OSError: the clip is in a shard, which never changes.
    """
    shard = _shard_of(path)
    if shard is not None:
        raise OSError(errno.EROFS, f"it is in the shard {shard.name}")
    return path


def stored_summary(clip: Path) -> Mapping[str, Any] | None:
    """What the index of a clip's shard says of the clip itself; None if it says nothing, or the clip is in none.

    Raises:
        UserError: the index is damaged.
    """
    shard = _shard_of(clip / "clip.npz")
    return None if shard is None else _index(shard).summaries.get(clip.name)


def packed_clips(folder: Path) -> list[Path]:
    """The clips in the shards of a folder, sorted by name; one that is in two shards is listed once.

    Raises:
        UserError: an index is damaged or missing.
    """
    clips: dict[str, Path] = {}
    if is_local_copy(folder):
        shards = [folder / f"{name}{SHARD_SUFFIX}" for name in stored_shards(folder)]
    else:
        shards = sorted(folder.glob(SHARDS))
    for shard in shards:
        for name in _index(shard).places:
            clips.setdefault(name, shard / name)
    return [clips[name] for name in sorted(clips)]


def write_shard(folder: Path, clips: Sequence[Path], summaries: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write clips into a new shard of `folder`, whose name is a function of theirs; returns its path.

    The same clips give the same bytes, so that two processes which write the same shard do no harm.

    Args:
        summaries: by clip, what `stored_summary` returns.
    Raises:
        OSError: a clip cannot be read, or the shard cannot be written.
    """
    digest = hashlib.sha256("\n".join(clip.name for clip in clips).encode()).hexdigest()
    path = folder / f"shard-{digest[:12]}{SHARD_SUFFIX}"
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with whole_file(path) as part:
        with part.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for number, clip in enumerate(clips):
                key = f"{number:08d}"
                _add(archive, f"{key}.json", json.dumps({"name": clip.name}).encode())
                places[clip.name] = {
                    name: _add(archive, f"{key}.{name}", (clip / name).read_bytes()) for name in _files_of(clip)
                }
        with whole_file(path.with_suffix(".json")) as index:
            content = {"version": SHARD_VERSION, "clips": places, "summaries": summaries or {}}
            index.write_text(json.dumps(content), encoding="utf-8")
    return path


def clip_bytes(clip: Path) -> int:
    """Size of all files of a clip in a folder of its own."""
    return sum((clip / name).stat().st_size for name in _files_of(clip))


def _files_of(clip: Path) -> list[str]:
    return sorted(path.name for path in clip.iterdir() if path.is_file() and not path.name.startswith("."))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Append a file; returns where its content begins, and its size."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    blocks = -(-len(content) // tarfile.BLOCKSIZE)
    return archive.offset - blocks * tarfile.BLOCKSIZE, len(content)


def _shard_of(path: Path) -> Path | None:
    """The shard of a path SHARD.tar/NAME/FILE; None for a file on disk."""
    shard = path.parent.parent
    if shard.suffix != SHARD_SUFFIX:
        return None
    return shard if shard.is_file() or is_local_copy(shard.parent) else None


def _opened(shard: Path, path: Path) -> tuple[BinaryIO, int, int]:
    """An open file that holds a file of a clip, where it begins there, and its size."""
    clip, name = path.parent.name, path.name
    try:
        first, size = _index(shard).places[clip][name]
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, f"{clip} in {shard.name} has no {name}") from None
    if is_local_copy(shard.parent):
        return open_stored(shard, clip, name, (first, size)), 0, size
    return shard.open("rb"), first, size


def _index(shard: Path) -> ShardIndex:
    index = shard.with_suffix(".json")
    try:
        size = stored_size(shard) if is_local_copy(shard.parent) else shard.stat().st_size
        return _read_index(index, index.stat().st_mtime_ns, size)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{index} is missing or damaged ({error}); delete {shard.name} and pack its clips again"
        ) from error


@cache
def _read_index(index: Path, changed: int, size: int) -> ShardIndex:
    """The index as it was at the time `changed`, of an archive of `size` bytes, or -1."""
    content = json.loads(index.read_text(encoding="utf-8"))
    if content["version"] != SHARD_VERSION:
        raise ValueError(f"version {content['version']}")
    places = {
        clip: {name: (int(first), int(length)) for name, (first, length) in files.items()}
        for clip, files in content["clips"].items()
    }
    for clip, files in places.items():
        if any(not _is_name(name) for name in (clip, *files)):
            raise ValueError("a name that is none of a file")  # would lead out of the folder
        if any(first < 0 or length < 0 or 0 <= size < first + length for first, length in files.values()):
            raise ValueError("a file beyond the end of the archive")
    return ShardIndex(places, {clip: dict(facts) for clip, facts in content.get("summaries", {}).items()})


def _is_name(text: str) -> bool:
    return text not in ("", ".", "..") and not set(text) & {"/", "\\", "\0"}


class _Part(io.RawIOBase):
    """Bytes `first` to `first + size` of an open file, which it closes, as a file."""

    def __init__(self, file: BinaryIO, first: int, size: int) -> None:
        self._file, self._first, self._size = file, first, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._position), 0)
        self._file.seek(self._first + self._position)
        content = self._file.read(count)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
