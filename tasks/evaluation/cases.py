"""Cases: who is driven by whom, one a clip or a pair, in an order that does not depend on the machine."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from modules.system.config import nearest
from modules.system.errors import UserError
from tasks.evaluation.clips import PHOTOS, VIDEOS, list_videos
from tasks.evaluation.settings import EvaluationConfig


@dataclass(frozen=True)
class Case:
    """One thing to make.

    Attributes:
        name: of its files: the clip's, or SOURCE__DRIVER.
        source: photo or clip, whose first frame is the photo.
        driver: the clip whose motion or sound drives, and with which the result is compared.
    """

    name: str
    source: Path
    driver: Path

    def seed(self, seed: int) -> int:
        """A seed of this case alone, whatever the others are."""
        return (seed << 32) + zlib.crc32(self.name.encode())


def list_cases(config: EvaluationConfig) -> tuple[list[Case], list[str]]:
    """All cases in order, and what the report says of files that were not used.

    Raises:
        UserError: no videos, no sources, or a pair of unknown names.
    """
    videos, others = list_videos(config.videos)
    notes = [f"{others} other files in {config.videos}: not used"] if others else []
    if config.protocol != "cross_identity":
        cases = [Case(name, path, path) for name, path in videos.items()]
    else:
        sources = videos if config.sources is None else list_sources(config.sources)
        pairs = config.pairs or next_clips(list(sources), list(videos))
        cases = []
        for source, driver in pairs:
            for name, known, where in ((source, sources, config.sources), (driver, videos, config.videos)):
                if name not in known:
                    raise UserError(
                        f"pairs names {name}, which is not in {where or config.videos}{nearest(name, known)}"
                    )
            cases.append(Case(f"{source}__{driver}", sources[source], videos[driver]))
    if len(cases) > config.clips:
        notes.append(f"{len(cases) - config.clips} cases beyond the first {config.clips} (clips): not used")
    return cases[: config.clips], notes


def next_clips(sources: list[str], drivers: list[str]) -> list[tuple[str, str]]:
    """Source i with driver i + 1, round the end; nobody drives the clip that they are from, unless it is the only one.

    As many pairs as the longer list has names.
    """
    count = max(len(sources), len(drivers))
    return [(sources[i % len(sources)], drivers[(i + 1) % len(drivers)]) for i in range(count)]


def list_sources(folder: Path) -> dict[str, Path]:
    """Photos and clips of a folder by name, sorted.

    Raises:
        UserError: no folder, none in it, or two of one name.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; sources must be a folder of photos or videos")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (*PHOTOS, *VIDEOS))
    names = [path.stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not paths or twice:
        problem = f"has two files called {twice}; rename one" if twice else "holds no photo and no video"
        raise UserError(f"{folder} {problem}")
    return dict(zip(names, paths))
