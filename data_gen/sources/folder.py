"""Videos of one's own: a folder, a file or a pattern; python -m data_gen.run configs/data/videos.yaml videos=FOLDER"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from data_gen.sources.base import Found, SourceConfig, Video
from modules.system.errors import UserError

CLIP_DATA = "clip.npz"  # a folder with it is a prepared clip
SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")


@dataclass(frozen=True, kw_only=True)
class VideoDataConfig(SourceConfig):
    """Videos that nobody has listed.

    `videos` is a folder (searched with the folders in it and those that they link to), one file, or a pattern such as
    raw/*/*.mp4; what exists under that very name is taken as it is.
    """

    videos: str  # folder, file or pattern of the videos
    person: str = ""  # pattern that finds the person in the name of a video (`Video`); empty: a video is a person

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.person)
        except re.error as error:
            raise ValueError(f"person is {self.person!r}, which is no regular expression: {error}") from error

    def find(self) -> Found:
        """All videos, as `find_videos` names them."""
        return Found([replace(video, person=self.person_in(video.name)) for video in find_videos(self.videos)])

    def person_in(self, video: str) -> str:
        """The person in the name of a video: the pattern's first group, or all that it finds; empty if nothing."""
        found = re.search(self.person, video)
        return (found[1] if found.re.groups else found[0]) or "" if found else ""


def find_videos(videos: str) -> list[Video]:
    """The video files of a folder or pattern, sorted by name; hidden files are left out.

    Raises:
        UserError: there are none, or two would give clips of the same name.
    """
    root, paths = video_files(videos)
    by_name: dict[str, Video] = {}
    for path in paths:
        name = re.sub(r"\s", " ", "_".join(path.relative_to(root).with_suffix("").parts))
        name = name.encode("utf-8", "replace").decode()
        if name in by_name:
            raise UserError(f"clips of {by_name[name].path} and {path} would have the same name; rename one of them")
        by_name[name] = Video(name=name, path=path, size=path.stat().st_size)
    return list(by_name.values())


def video_files(videos: str) -> tuple[Path, list[Path]]:
    """The folder that a folder, file or pattern is about, and the video files, sorted, without hidden ones.

    Raises:
        UserError: there are none.
    """
    root, pattern = _root_and_pattern(videos)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; set videos= to a folder or a pattern such as raw/*.mp4")
    paths = sorted(path for path in _matches(root, pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"no videos in {videos}; files must end in {', '.join(SUFFIXES)}")
    return root, paths


def _root_and_pattern(videos: str) -> tuple[Path, tuple[str, ...]]:
    """The folder to look in and the pattern for what is in it, part by part; what exists as written is no pattern."""
    path = Path(videos)
    if path.is_file():
        return path.parent, (re.sub(r"([*?[])", r"[\1]", path.name),)
    if path.is_dir() or not _is_pattern(videos):
        return path, ("**", "*")
    count = next(
        i for i, part in enumerate(path.parts) if _is_pattern(part) and not Path(*path.parts[: i + 1]).is_dir()
    )
    return Path(*path.parts[:count]), path.parts[count:]


def _is_pattern(text: str) -> bool:
    return re.search(r"[*?[]", text) is not None


def _matches(folder: Path, pattern: Sequence[str]) -> set[Path]:
    """What matches a pattern such as ("**", "*.mp4") in a folder, without hidden files."""
    first, *rest = pattern
    if first == "**":
        return {path for inner in _folders(folder) for path in _matches(inner, rest or ["*"])}
    found = {folder / first}
    if _is_pattern(first):
        found = {path for path in _contents(folder) if fnmatchcase(path.name, first)}
    return {path for inner in found if inner.is_dir() for path in _matches(inner, rest)} if rest else found


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all in it. Links are followed after the others, and every folder is given once, by one name."""
    waiting, links, seen = [folder], [], set()
    while waiting or links:
        here = waiting.pop(0) if waiting else links.pop(0)
        real = here.resolve()
        if real not in seen:
            seen.add(real)
            yield here
            for inner in _contents(here):
                if inner.is_dir():
                    (links if inner.is_symlink() else waiting).append(inner)


def _contents(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files and without clips that were prepared there."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); allow it, or set videos= to another") from error
    return [path for path in paths if not (path / CLIP_DATA).is_file()]
