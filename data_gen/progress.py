"""Progress of a run over videos, kept in its folder so that the next run resumes: what is done, refused, and why.

    done.tsv       video, bytes, clips, frames, clips with sound, seconds of one core: a line for each finished video
    rejected.tsv   video, seconds from and to, reason: a line for each part, or for the whole of a video
    missing.tsv    video, what is missing: a line for each video of a list that is not there; as of the last run
    settings.yaml  what all clips of the folder have in common
A video whose line in done.tsv is missing, or has another number of bytes, is prepared (again).
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.media.rates import FRAME_RATE
from modules.system.config import changed_keys, load_yaml, save_yaml
from modules.system.errors import UserError
from modules.system.files import whole_file

DONE, REJECTED, MISSING, SETTINGS = "done.tsv", "rejected.tsv", "missing.tsv", "settings.yaml"
LATELY = 600.0  # seconds since the last start of a run or end of a video after which a folder counts as left alone
FRAMES_A_MINUTE = FRAME_RATE * 60


@dataclass(frozen=True)
class Refusal:
    """Seconds `start` to `stop` of a video; equal if it is not known where it would end."""

    start: float
    stop: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class RefusedKind:
    """Refusals whose reasons differ in numbers alone: how many, their seconds together, and a video of them.

    `reason` has N in place of each number.
    """

    reason: str
    count: int
    seconds: float
    example: str


@dataclass(frozen=True, kw_only=True)
class VideoReport:
    """Result for a video of `size` bytes: numbers of clips, of their frames, of clips with sound; what was refused.

    `seconds`: of one core that it took.
    """

    name: str
    size: int
    clips: int = 0
    frames: int = 0
    with_sound: int = 0
    refused: tuple[Refusal, ...] = ()
    seconds: float = 0.0

    def with_clip(self, frames: int, has_sound: bool) -> "VideoReport":
        """The report after one more clip."""
        return replace(self, clips=self.clips + 1, frames=self.frames + frames, with_sound=self.with_sound + has_sound)


def is_finished(folder: Path, name: str, size: int) -> bool:
    """Whether any run over `folder` has finished a video of that name and number of bytes, as of now."""
    path, start = folder / DONE, f"{name}\t{size}\t".encode()
    return path.is_file() and any(line.startswith(start) for line in path.read_bytes().split(b"\n"))


class PreparationLog:
    """The files of a folder of clips.

    Args:
        folder: of the clips; made if it is not there.
        settings: what must be the same for all clips in it.
    Attributes:
        shared: whether another run may be working on the folder.
    Raises:
        UserError: the folder was prepared with other settings, or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.shared = self._has_changed_lately()
            self._check(settings)
            rows = self._rows(DONE)
        except OSError as error:
            raise UserError(f"{folder} cannot be used ({error.strerror}); set folder= to another folder") from error
        self._done = {row[0]: tuple(int(number) for number in row[1:5]) for row in rows if len(row) >= 5}
        self._seconds = sum(float(row[5]) for row in rows if len(row) >= 6)  # also of videos that were done again

    def is_done(self, name: str, size: int) -> bool:
        """Whether the video is finished and still has as many bytes."""
        return name in self._done and self._done[name][0] == size

    def forget(self, names: list[str]) -> None:
        """Drop the refusals of videos that are prepared again."""
        rows = self._rows(REJECTED)
        again = set(names)
        others = [row for row in rows if row[0] not in again]
        if len(others) < len(rows):
            self._replace(REJECTED, others)

    def note_missing(self, missing: Sequence[Sequence[str]]) -> None:
        """Write down the videos that a list has and the disk has not: name and what is missing."""
        if missing or (self.folder / MISSING).is_file():
            self._replace(MISSING, missing)

    @property
    def missing_count(self) -> int:
        """How many videos of a list were not there in the last run."""
        return len(self._rows(MISSING))

    def refused_kinds(self) -> list[RefusedKind]:
        """Why parts of videos, or whole ones, were refused; what was most often comes first."""
        kinds: dict[str, list[list[str]]] = {}
        for row in self._rows(REJECTED):
            if len(row) >= 4:
                kinds.setdefault(re.sub(r"\d+(\.\d+)?", "N", row[3]), []).append(row)
        found = (
            RefusedKind(
                reason=reason,
                count=len(rows),
                seconds=sum(float(stop) - float(start) for _, start, stop, *_ in rows),
                example=f"{rows[0][0]}: {rows[0][3]}",
            )
            for reason, rows in kinds.items()
        )
        return sorted(found, key=lambda kind: (-kind.count, kind.reason))

    def add(self, report: VideoReport) -> None:
        """Write down a finished video."""
        self._append(REJECTED, [[report.name, f"{r.start:.2f}", f"{r.stop:.2f}", r.reason] for r in report.refused])
        numbers = (report.size, report.clips, report.frames, report.with_sound)
        self._append(DONE, [[report.name, *map(str, numbers), f"{report.seconds:.1f}"]])
        self._done[report.name] = numbers
        self._seconds += report.seconds

    @property
    def cost(self) -> str:
        """What all runs over the folder took together, in words."""
        return f"{self._seconds / 3600:.3g} core-hours"

    def summary(self) -> str:
        """Folder and counts, in one line."""
        clips, frames, with_sound = (sum(numbers[i] for numbers in self._done.values()) for i in (1, 2, 3))
        refused = len(self._rows(REJECTED))
        reasons = f"; {refused} parts refused, see {self.folder / REJECTED}" if refused else ""
        missing = self.missing_count
        reasons += f"; {missing} missing, see {self.folder / MISSING}" if missing else ""
        cost = f"{self.cost}, " if self._seconds else ""
        return (
            f"{self.folder}: {clips} clips of {len(self._done)} videos, {frames / FRAMES_A_MINUTE:.1f} min of video, "
            f"{cost}{with_sound} with sound{reasons}"
        )

    def _check(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        if not settings:
            return
        if not path.is_file():
            save_yaml(path, settings)
            return
        path.touch()
        before = load_yaml(path)
        for key in changed_keys(before, settings):
            raise UserError(
                f"{self.folder} was prepared with {key}={before.get(key)}, not {settings.get(key)}; "
                "set folder= to another folder"
            )

    def _has_changed_lately(self) -> bool:
        changed = [path.stat().st_mtime for path in (self.folder / DONE, self.folder / SETTINGS) if path.is_file()]
        return time.time() - max(changed, default=-math.inf) < LATELY

    def _rows(self, name: str) -> list[list[str]]:
        path = self.folder / name
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        return [line.split("\t") for line in lines if line]

    def _replace(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        with whole_file(self.folder / name) as part:
            part.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")

    def _append(self, name: str, rows: list[list[str]]) -> None:
        if not rows:
            return
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write("".join("\t".join(row) + "\n" for row in rows))
