"""Pack prepared clips into a few large files: python -m data_gen.pack FOLDER OUT

    python -m data_gen.pack data/own data/own_packed
    python -m data_gen.pack data/own data/own_packed --megabytes 1024
    python -m data_gen.pack data/own s3://bucket/own

OUT is then used like FOLDER: `data.folder=data/own_packed`. It may be an address of an object store
(modules/clips/store.py): then each shard is written to a scratch folder and put there. A run that was stopped continues
with the clips that are in no shard yet, and so does a later one when clips came in the meantime. FOLDER stays as it is.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from modules.audio.features import FeatureKind
from modules.clips.format import CannotWrite, Clip, has_sound, list_clips, person_of
from modules.clips.shards import clip_bytes, packed_clips, write_shard
from modules.clips.store import StoreConfig, is_address, local_folder, upload
from modules.clips.summary import ClipSummary
from modules.system.errors import UserError, note, run_command
from modules.system.files import same_file
from modules.system.interrupts import Interrupts
from modules.system.progress import with_progress

MEGABYTES = 256  # of a shard, about: it ends with the clip that fills it
LEFT_AFTER = 3600  # seconds after which nobody writes an unfinished shard any more


def pack(folder: Path, out: str | Path, megabytes: float = MEGABYTES) -> tuple[int, int, int]:
    """Pack the clips of a folder that are not in `out` yet.

    Args:
        out: a folder, or the address of a store.
    Returns:
        Numbers of clips in `out`, of shards there, and of damaged clips, which are left out.
    Raises:
        UserError: there are no clips, `out` is `folder`, or the store fails.
        CannotWrite: `out` cannot be written.
    """
    if is_address(str(out)):
        with tempfile.TemporaryDirectory() as scratch:
            store = StoreConfig(cache=str(Path(scratch) / "indexes"))
            there = packed_clips(local_folder(str(out), store))
            return _pack(folder, Path(scratch), megabytes, there, str(out))
    out = Path(out)
    if same_file(folder, out):
        raise UserError(f"{out} is the folder of the clips; name another one for the shards")
    return _pack(folder, out, megabytes, packed_clips(out))


def _pack(folder: Path, out: Path, megabytes: float, there: Sequence[Path], address: str = "") -> tuple[int, int, int]:
    """Write shards of the clips that are not `there` to `out` and, one by one, move them to an address."""
    done = {clip.name for clip in there}
    waiting = [clip for clip in list_clips(folder) if clip.name not in done]
    good = [summary for clip in waiting if (summary := _summary(clip)) is not None]
    shards = list(_shards(good, megabytes * 2**20))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        with Interrupts() as interrupts:
            for path in with_progress(map(_writer(out), shards), len(shards), "shard"):
                if address:
                    _move(path, address)
                interrupts.check()
    except OSError as error:
        raise CannotWrite(f"{out} cannot be written ({error.strerror or error}); free some space") from error
    before = {clip.parent for clip in there}
    return len(done) + len(good), len(before) + len(shards), len(waiting) - len(good)


def _writer(out: Path) -> Callable[[list[ClipSummary]], Path]:
    def write(group: list[ClipSummary]) -> Path:
        clips = [summary.folder for summary in group]
        return write_shard(out, clips, {summary.folder.name: summary.facts() for summary in group})

    return write


def _move(shard: Path, address: str) -> None:
    """Put a shard into a store; the index comes last, so that a shard is whole or not there."""
    for path in (shard, shard.with_suffix(".json")):
        upload(path, address, StoreConfig().attempts)
        path.unlink()


def _summary(folder: Path) -> ClipSummary | None:
    """What the index will say of a clip; None, and a note, if it cannot be opened or is in a shard already."""
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is in a shard")
        clip = Clip(folder)
        stored = {kind: clip.stored_speech(kind) for kind in get_args(FeatureKind)}
        return ClipSummary(
            folder=folder,
            person=person_of(folder),
            face_model=clip.face_model,
            frames=len(clip),
            samples=clip.audio_length(),
            heard=has_sound(folder),
            features={kind: facts for kind, facts in stored.items() if facts is not None},
        )
    except UserError as error:
        note(f"left out: {str(error).partition(';')[0]}")
        return None


def _shards(clips: Sequence[ClipSummary], size: float) -> Iterator[list[ClipSummary]]:
    """Clips in order, in groups of at least `size` bytes; the last one may be smaller."""
    group: list[ClipSummary] = []
    total = 0
    for clip in clips:
        group.append(clip)
        total += clip_bytes(clip.folder)
        if total >= size:
            yield group
            group, total = [], 0
    if group:
        yield group


def _remove_leftovers(out: Path) -> None:
    """Delete what a killed run has left; what was written lately may be of a run that works there at the same time."""
    for path in out.glob(".shard-*.part"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFT_AFTER:
                path.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m data_gen.pack", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of prepared clips")
    parser.add_argument("out", help="folder of the shards, or the address of a store such as s3://bucket/prefix")
    parser.add_argument("--megabytes", type=float, default=MEGABYTES, help="of a shard (default: %(default)s)")
    options = parser.parse_args(arguments)

    def body() -> None:
        if not options.megabytes > 0:
            raise UserError(f"--megabytes is {options.megabytes:g}; give more than 0")
        clips, shards, damaged = pack(options.folder, options.out, options.megabytes)
        left_out = f"; {damaged} left out" if damaged else ""
        print(f"{options.out}: {clips} clips in {shards} shards{left_out}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
