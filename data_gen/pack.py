"""Pack prepared clips into a few large files: python -m data_gen.pack FOLDER OUT

    python -m data_gen.pack data/own data/own_packed
    python -m data_gen.pack data/own data/own_packed --megabytes 1024

OUT is then used like FOLDER: `data.folder=data/own_packed`. A run that was stopped continues with the clips that are in
no shard yet, and so does a later one when clips came in the meantime. FOLDER stays as it is.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from modules.clips.format import CannotWrite, Clip, list_clips
from modules.clips.shards import clip_bytes, packed_clips, write_shard
from modules.system.errors import UserError, note, run_command
from modules.system.files import same_file
from modules.system.interrupts import Interrupts
from modules.system.progress import with_progress

MEGABYTES = 256  # of a shard, about: it ends with the clip that fills it
LEFT_AFTER = 3600  # seconds after which nobody writes an unfinished shard any more


def pack(folder: Path, out: Path, megabytes: float = MEGABYTES) -> tuple[int, int]:
    """Pack the clips of a folder that are not in `out` yet; numbers of clips in `out` and of damaged ones left out.

    Raises:
        UserError: there are no clips, or `out` is `folder`.
        CannotWrite: `out` cannot be written.
    """
    if same_file(folder, out):
        raise UserError(f"{out} is the folder of the clips; name another one for the shards")
    done = {clip.name for clip in packed_clips(out)}
    waiting = [clip for clip in list_clips(folder) if clip.name not in done]
    good = [clip for clip in waiting if _is_whole(clip)]
    shards = list(_shards(good, megabytes * 2**20))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        with Interrupts() as interrupts:
            for _ in with_progress((write_shard(out, clips) for clips in shards), len(shards), "shard"):
                interrupts.check()
    except OSError as error:
        raise CannotWrite(f"{out} cannot be written ({error.strerror or error}); free some space") from error
    return len(done) + len(good), len(waiting) - len(good)


def _is_whole(clip: Path) -> bool:
    """Whether a clip can be opened and is not in a shard already; says so if not."""
    try:
        Clip(clip)
        if not clip.is_dir():
            raise UserError(f"{clip} is in a shard")
    except UserError as error:
        note(f"left out: {str(error).partition(';')[0]}")
        return False
    return True


def _shards(clips: Sequence[Path], size: float) -> Iterator[list[Path]]:
    """Clips in order, in groups of at least `size` bytes; the last one may be smaller."""
    group: list[Path] = []
    total = 0
    for clip in clips:
        group.append(clip)
        total += clip_bytes(clip)
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
    parser.add_argument("out", type=Path, help="folder of the shards")
    parser.add_argument("--megabytes", type=float, default=MEGABYTES, help="of a shard (default: %(default)s)")
    options = parser.parse_args(arguments)

    def body() -> None:
        if not options.megabytes > 0:
            raise UserError(f"--megabytes is {options.megabytes:g}; give more than 0")
        clips, damaged = pack(options.folder, options.out, options.megabytes)
        shards = len({clip.parent for clip in packed_clips(options.out)})
        left_out = f"; {damaged} left out" if damaged else ""
        print(f"{options.out}: {clips} clips in {shards} shards{left_out}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
