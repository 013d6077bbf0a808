"""HDTF as it is published: text files of videos, times and crops, and videos that you downloaded.

    python -m data_gen.run configs/data/hdtf.yaml annotations=HDTF_dataset videos=FOLDER

The annotations are three groups RD, WDA and WRA of files:
    XX_video_url.txt      Name URL
    XX_annotion_time.txt  Name.mp4 00:05-04:40 05:05-06:05      from-to of each clip, numbered from 0
    XX_crop_wh.txt        Name_0.mp4 608 726 0 726              left, width, top, height, in pixels
    XX_resolution.txt     Name.mp4 720                          height of the picture that has these pixels
Videos are found by their YouTube id, or are called Name or XX_Name. Names are of people, with a number where one has
several videos; those of the radio speakers (RD) are of videos.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_gen.sources.base import Found, Video, Window
from data_gen.sources.folder import video_files
from data_gen.sources.published import YOUTUBE_ID, AnnotatedConfig, check_name, lines_of, videos_by_id
from modules.system.errors import UserError

PUBLISHED_GROUPS = ("RD", "WDA", "WRA")
UNNAMED = "RD"  # the group whose names are no people's
_TIMES = re.compile(r"((?:\d+:)?\d+:\d+(?:\.\d+)?)-((?:\d+:)?\d+:\d+(?:\.\d+)?)")
_URL_ID = re.compile(rf"(?:v=|youtu\.be/)({YOUTUBE_ID})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class HDTFConfig(AnnotatedConfig):
    """The folder of the text files, and videos whose names hold the YouTube id or that of the list."""

    def find(self) -> Found:
        """The clips whose video is there, each as a part of it."""
        folder = Path(self.annotations)
        groups = [group for group in PUBLISHED_GROUPS if (folder / f"{group}_annotion_time.txt").is_file()]
        if not groups:
            raise UserError(
                f"{folder} has no RD_annotion_time.txt, WDA_... or WRA_...; set annotations= to their folder"
            )
        by_id = videos_by_id(self.videos)
        by_name = {path.stem: path for path in video_files(self.videos)[1]}
        found = Found([])
        for group in groups:
            lists = _Lists(folder, group)
            for clip in lists.clips():
                paths = (by_id.get(lists.ids.get(clip.of, "")), by_name.get(clip.of), by_name.get(f"{group}_{clip.of}"))
                path = next(filter(None, paths), None)
                problem = lists.problem(clip) or ("" if path else f"no video {clip.of} in {self.videos}")
                if path is None or problem:
                    found.missing.append((f"{group}_{clip.name}", problem))
                else:
                    found.videos.append(lists.video(clip, path, self.margin))
        return found


@dataclass(frozen=True)
class _Clip:
    """Seconds `start` to `stop` of the video `of`; the clip's own name has a number."""

    of: str
    name: str
    start: float
    stop: float


class _Lists:
    """The four files of a group."""

    def __init__(self, folder: Path, group: str) -> None:
        self.group = group
        self._times = folder / f"{group}_annotion_time.txt"
        self.ids = {
            words[0]: found[1]
            for words in lines_of(folder / f"{group}_video_url.txt")
            if (found := _URL_ID.search(words[-1]))
        }
        self._crops = _numbers(folder / f"{group}_crop_wh.txt", 4)
        self._heights = _numbers(folder / f"{group}_resolution.txt", 1)

    def clips(self) -> Iterator[_Clip]:
        """The clips of the list of times, in order."""
        for name, *spans in lines_of(self._times):
            of = check_name(_stem(name), self._times)
            for number, span in enumerate(spans):
                times = _TIMES.fullmatch(span)
                start, stop = (_seconds(times[1]), _seconds(times[2])) if times else (0.0, 0.0)
                if stop <= start:
                    raise UserError(f"{self._times}: {name} has the times {span}; write them as 00:05-04:40")
                yield _Clip(of, f"{of}_{number}", start, stop)

    def problem(self, clip: _Clip) -> str:
        """What the lists lack of a clip; empty if nothing."""
        if clip.name not in self._crops:
            return f"no crop in {self.group}_crop_wh.txt"
        return "" if clip.of in self._heights else f"no height in {self.group}_resolution.txt"

    def video(self, clip: _Clip, path: Path, margin: float) -> Video:
        left, width, top, height = self._crops[clip.name]
        return Video(
            name=f"{self.group}_{clip.name}",
            path=path,
            size=path.stat().st_size,
            start=clip.start,
            stop=clip.stop,
            window=Window(left, top, left + width, top + height, self._heights[clip.of][0]),
            margin=margin,
            person=clip.of if self.group == UNNAMED else re.sub(r"\d+$", "", clip.of),
            origin=f"HDTF {self.group}_{clip.name}, {path.name}",
        )


def _stem(name: str) -> str:
    return name.removesuffix(".mp4")


def _seconds(text: str) -> float:
    """1:02:03 or 02:03 as seconds."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _numbers(path: Path, count: int) -> dict[str, list[float]]:
    """Name -> the `count` numbers behind it, of a text file."""
    numbers = {}
    for name, *values in lines_of(path):
        try:
            numbers[_stem(name)] = [float(value) for value in values]
        except ValueError:
            values = []
        if len(values) != count:
            raise UserError(f"{path}: {name} must have {count} numbers behind it; take the file as it was published")
    return numbers
