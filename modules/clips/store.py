"""Shards in object storage, read file by file and kept on this machine within a limit of size.

    python -m tasks.run configs/htbsr.yaml data.folder=s3://bucket/prefix data.store.gigabytes=200

fsspec reads them, S3 by s3fs (requirements-object-store.txt): credentials, region and endpoint are those of the usual
AWS variables and files. `clip_folder` makes of an address a local folder that stands for it, and
modules/clips/shards.py takes a clip from there like any other:

    CACHE/lock, CACHE/used                          of all processes of the machine: who counts, bytes in all
    CACHE/1a2b3c4d5e6f/store.json                   the address and its shards, as of the last `clip_folder`
    CACHE/1a2b3c4d5e6f/shard-9f8e7d6c5b4a.json      the index of a shard
    CACHE/1a2b3c4d5e6f/shard-9f8e7d6c5b4a/STATE/NAME/FILE     files of clips that were read; those used last stay

STATE is another when the shard in the store was replaced. Files appear whole or not at all, and may be deleted at any
moment: who has one open keeps it, and who asks later gets it from the store again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from secrets import SystemRandom
from typing import Any, BinaryIO, TypeVar

from modules.system.errors import UserError
from modules.system.files import whole_file
from modules.system.packages import optional_package

STORE_REQUIREMENTS = "requirements-object-store.txt"
LISTING = "store.json"
GIGABYTE = 10**9
KEPT = 0.9  # of the limit: what stays when files are deleted, so that it is not done for each new one
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds before the second try, doubled from try to try, and at most
WRITTEN_WITHIN = 600.0  # seconds: an unfinished file that is older was left by a process that was killed
INDEXES_AT_ONCE = 16  # indexes that are read side by side
_FINAL = ("FileNotFoundError", "PermissionError", "NoCredentialsError", "PartialCredentialsError")  # no try helps
_SHARD = re.compile(r"shard-[\w-]+\.tar")  # no other name becomes a path here
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """How shards of an object store are read.

    Attributes:
        cache: folder for what was read; several processes and trainings may share it.
        gigabytes: its limit; it is passed, for a moment, by the files that are being written at most.
        attempts: tries of a request, with longer and longer pauses between.
    """

    cache: str = "data/store_cache"
    gigabytes: float = 50.0
    attempts: int = 6

    def __post_init__(self) -> None:
        if not self.gigabytes > 0 or self.attempts < 1:
            raise ValueError(f"gigabytes is {self.gigabytes} (above 0), attempts {self.attempts} (at least 1)")


@dataclass(frozen=True)
class StoredShard:
    """A shard as the store lists it.

    Attributes:
        size: bytes of the archive; -1: not known.
        state: another one when archive or index was replaced, as far as the store tells.
    """

    size: int
    state: str


def is_address(folder: str) -> bool:
    """Whether a folder is an address such as s3://bucket/prefix, and no path on this machine."""
    return "://" in folder


def clip_folder(folder: str, config: StoreConfig) -> Path:
    """A folder of clips on this machine: itself, or that which stands for an address.

    Raises:
        UserError: there are no shards, the store does not answer, or a package is missing.
    """
    if not is_address(folder):
        return Path(folder)
    local = local_folder(folder, config)
    if not stored_shards(local):
        raise UserError(f"no shards in {folder}; put some there: python -m data_gen.pack CLIPS {folder}")
    return local


def local_folder(address: str, config: StoreConfig) -> Path:
    """The folder that stands for an address, with the indexes of all shards as they are now, if there are any.

    Raises:
        UserError: the store does not answer, the folder cannot be written, or a package is missing.
    """
    folder = Path(config.cache) / hashlib.sha256(address.encode()).hexdigest()[:12]
    before: Mapping[str, StoredShard] = {}
    with suppress(UserError):  # none yet, or a damaged one
        before = stored_shards(folder)
    shards = _listed(address, config.attempts)
    new = [
        name for name, shard in shards.items() if before.get(name) != shard or not (folder / f"{name}.json").is_file()
    ]
    try:
        with ThreadPoolExecutor(INDEXES_AT_ONCE) as pool:
            read = partial(_read_index, address=address, attempts=config.attempts)
            for name, content in zip(new, pool.map(read, new)):
                with whole_file(folder / f"{name}.json") as part:
                    part.write_bytes(content)
        with whole_file(folder / LISTING) as part:
            listing = {name: asdict(shard) for name, shard in shards.items()}
            limit = round(config.gigabytes * GIGABYTE)
            part.write_text(
                json.dumps({"address": address, "limit": limit, "attempts": config.attempts, "shards": listing}),
                encoding="utf-8",
            )
        _make_room(folder.parent, 0, limit, anew=True)
    except OSError as error:
        raise _not_written(folder, error) from error
    return folder


def is_local_copy(folder: Path) -> bool:
    """Whether a folder stands for an address."""
    return (folder / LISTING).is_file()


def stored_shards(folder: Path) -> Mapping[str, StoredShard]:
    """The shards of a folder that stands for an address, by name without ending.

    Raises:
        UserError: its list is damaged.
    """
    return {name: StoredShard(**shard) for name, shard in _listing(folder)["shards"].items()}


def stored_size(shard: Path) -> int:
    """Bytes of an archive in a folder that stands for an address, -1 if the store does not tell.

    Raises:
        UserError: the folder's list is damaged.
    """
    return int(_listing(shard.parent)["shards"][shard.stem]["size"])


def open_stored(shard: Path, clip: str, file: str, place: tuple[int, int]) -> BinaryIO:
    """A file of a clip in a shard of a store, read from there if it is not on this machine.

    Args:
        shard: its archive, as if it lay in the folder that stands for the address.
        place: first byte in the archive, bytes.
    Raises:
        UserError: the store does not answer, does not let us, or the cache cannot be written or is too small.
    """
    listing = _listing(shard.parent)
    state = listing["shards"][shard.stem]["state"]
    path = shard.with_suffix("") / state / clip / file
    while True:
        with suppress(FileNotFoundError):
            opened = path.open("rb")
            with suppress(OSError):  # another process may have deleted it
                os.utime(path)  # the time of its last use
            return opened
        content = _tried(
            partial(_read_part, f"{listing['address'].rstrip('/')}/{shard.name}", *place), listing["attempts"]
        )
        try:
            _make_room(shard.parent.parent, len(content), listing["limit"])
            with whole_file(path) as part:
                part.write_bytes(content)
        except OSError as error:
            raise _not_written(shard.parent, error) from error


def upload(path: Path, address: str, attempts: int) -> None:
    """Put a file under its own name into a store, whole or not at all.

    Raises:
        UserError: the store does not take it, or a package is missing.
    """
    system, target = _system(f"{address.rstrip('/')}/{path.name}")
    _tried(lambda: system.put_file(str(path), target), attempts, "written")


def _read_part(address: str, first: int, size: int) -> bytes:
    system, path = _system(address)
    content = system.cat_file(path, start=first, end=first + size) if size else b""
    if len(content) > size:
        raise UserError(f"{address}: the server sends whole files and no parts of them; use one that knows Range")
    if len(content) < size:
        raise OSError(f"{len(content)} bytes came instead of {size}")
    return content


def _read_index(name: str, address: str, attempts: int) -> bytes:
    system, path = _system(f"{address.rstrip('/')}/{name}.json")
    return _tried(lambda: system.cat_file(path), attempts)


def _listed(address: str, attempts: int) -> dict[str, StoredShard]:
    """The shards that are whole: archive and index are there."""
    system, folder = _system(address)
    found: dict[str, dict[str, Any]] = {}
    try:
        for entry in _tried(lambda: system.ls(folder, detail=True, refresh=True), attempts):
            found[PurePosixPath(str(entry["name"])).name] = entry
    except _NotThere:
        return {}
    names = sorted(name.removesuffix(".tar") for name in found if _SHARD.fullmatch(name))
    return {name: _stored(found[f"{name}.tar"], found[f"{name}.json"]) for name in names if f"{name}.json" in found}


def _stored(archive: Mapping[str, Any], index: Mapping[str, Any]) -> StoredShard:
    facts = [
        f"{entry.get('ETag')} {entry.get('size')} {entry.get('LastModified', entry.get('mtime'))}"
        for entry in (archive, index)
    ]
    size = archive.get("size")
    return StoredShard(-1 if size is None else int(size), hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12])


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; asked for each time, since workers are forked."""
    fsspec = optional_package("fsspec", "reading shards from a store", "name a local folder", STORE_REQUIREMENTS)
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UserError(
            f"{address} needs a package ({error}); pip install -c constraints.txt -r {STORE_REQUIREMENTS}, or name a "
            "local folder"
        ) from error
    except ValueError as error:
        raise UserError(f"{address} is no address of a store ({error}); s3://bucket/prefix is one") from error


class _NotThere(UserError):
    """The store answers that it has no such thing."""


def _tried(ask: Callable[[], Answer], attempts: int, done: str = "read") -> Answer:
    """The answer of a store, which may fail now and then.

    Raises:
        UserError: it failed each time, or in a way that no further try would mend.
    """
    for attempt in range(1, attempts + 1):
        try:
            return ask()
        except UserError:
            raise
        except Exception as error:  # the errors of the stores have no common class
            names = {kind.__name__ for kind in type(error).__mro__}
            final = not names.isdisjoint(_FINAL)
            if final or attempt == attempts:
                tries = "" if final else f", {attempts} times"
                reason = (str(error) or type(error).__name__).splitlines()[0]
                kind = _NotThere if isinstance(error, FileNotFoundError) else UserError
                raise kind(
                    f"the store could not be {done} ({reason}{tries}); check its address, the connection, and your "
                    "access (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and the like)"
                ) from error
        pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
        time.sleep(SystemRandom().uniform(pause / 2, pause))  # not all processes at once
    raise AssertionError("attempts is at least 1")


def _listing(folder: Path) -> Mapping[str, Any]:
    path = folder / LISTING
    try:
        return _read_listing(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); start again, which makes it anew") from error


@cache
def _read_listing(path: Path, changed: int) -> Mapping[str, Any]:
    """The list as it was at the time `changed`."""
    return json.loads(path.read_text(encoding="utf-8"))


def _make_room(cache_folder: Path, size: int, limit: int, anew: bool = False) -> None:
    """Count a file of `size` bytes that is about to be written, and delete those that were not used for longest.

    Args:
        anew: look how large all files are together, since killed processes have counted what they did not write.
    Raises:
        UserError: the file alone is larger than the limit.
    """
    if size > limit:
        raise UserError(
            f"a file of a clip has {size / GIGABYTE:.3g} gigabytes, the cache {limit / GIGABYTE:.3g}; raise "
            "data.store.gigabytes"
        )
    filelock = optional_package("filelock", "the cache of a store", "name a local folder", STORE_REQUIREMENTS)
    with filelock.FileLock(cache_folder / "lock"):
        counter = cache_folder / "used"
        try:
            used = int(counter.read_text()) + size
        except (FileNotFoundError, ValueError):
            anew, used = True, size
        if anew or used > limit:
            used = _delete_oldest(cache_folder, size, limit)
        with whole_file(counter) as part:
            part.write_text(str(used))


def _delete_oldest(cache_folder: Path, size: int, limit: int) -> int:
    """Delete files if they and `size` bytes more are above the limit; returns how many bytes are then taken."""
    files = []
    for path in cache_folder.glob("*/shard-*/*/*/*"):
        with suppress(OSError):  # renamed or deleted by another process
            status = path.stat()
            if path.name.startswith(".") and time.time() - status.st_mtime < WRITTEN_WITHIN:
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
    used = size + sum(length for _, length, _ in files)
    if used <= limit:
        return used
    for _, length, path in sorted(files):
        if used <= max(KEPT * limit, size):
            break
        with suppress(OSError):  # Windows keeps what is open
            path.unlink()
            used -= length
    return used


def _not_written(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder} cannot be written ({error.strerror or error}); free some space, lower data.store.gigabytes or set "
        "data.store.cache"
    )
