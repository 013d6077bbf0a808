"""What lists of published data sets have in common: names that become folders, YouTube ids, lines of text."""

import re
from dataclasses import dataclass
from pathlib import Path

from data_gen.sources.base import SourceConfig
from data_gen.sources.folder import video_files
from modules.system.errors import UserError

YOUTUBE_ID = r"[\w-]{11}"
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
_IN_BRACKETS = re.compile(rf"\[({YOUTUBE_ID})\]$", re.ASCII)  # yt-dlp: Title [id].mp4
_AT_THE_END = re.compile(rf"(?:^|[-_ ])({YOUTUBE_ID})$", re.ASCII)  # youtube-dl: Title-id.mp4; or the id alone


@dataclass(frozen=True, kw_only=True)
class AnnotatedConfig(SourceConfig):
    """Lists that say which part of which video is a clip, and the videos that somebody downloaded."""

    annotations: str  # what was published: celebvhq_info.json, or the folder of HDTF's text files
    videos: str  # folder or pattern of the videos
    margin: float = 0.0  # shares of a published rectangle's sides by which it is widened in every direction

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin {self.margin} must be from 0 to 1")


def videos_by_id(videos: str) -> dict[str, Path]:
    """The video files of a folder or pattern by the YouTube id in their names.

    Names are `ID.mp4`, `Title [ID].mp4` or `Title-ID.mp4`, with any ending of a video; of several with one id the first
    by name counts.

    Raises:
        UserError: there are no videos at all.
    """
    found: dict[str, Path] = {}
    for path in video_files(videos)[1]:
        match = _IN_BRACKETS.search(path.stem) or _AT_THE_END.search(path.stem)
        if match:
            found.setdefault(match[1], path)
    return found


def check_name(name: str, path: Path) -> str:
    """A name of a published list, which becomes that of a folder.

    Raises:
        UserError: it holds what no published name does, such as a slash.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{path}: {name!r} is no name of a clip; take the list as it was published")
    return name


def lines_of(path: Path) -> list[list[str]]:
    """The words of each line of a text file, without empty lines.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{path} cannot be read ({reason}); put the published file there") from error
    return [words for line in text.splitlines() if (words := line.split())]
