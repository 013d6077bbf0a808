"""VoxCeleb2 as it is published: ROOT/id00012/21Uxsk56VDQ/00001.mp4, with the sound as .m4a under another root.

    python -m data_gen.run configs/data/voxceleb2.yaml videos=dev/mp4 sounds=dev/aac

`only` names a list of what to take: a text file with a person (id00012) or an utterance (id00012/21Uxsk56VDQ/00001,
with any ending) in each line, or vox2_meta.csv with `side=dev` or `side=test`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_gen.sources.base import Found, SourceConfig, Video
from data_gen.sources.published import YOUTUBE_ID, lines_of
from modules.system.errors import UserError

_PERSON = re.compile(r"id\d+", re.ASCII)
_VIDEO = re.compile(YOUTUBE_ID, re.ASCII)
_UTTERANCE = re.compile(rf"(id\d+)/({YOUTUBE_ID})/(\d+)", re.ASCII)

Parts = tuple[str, str, str]  # person, YouTube id, number


@dataclass(frozen=True, kw_only=True)
class VoxCeleb2Config(SourceConfig):
    """The tree of the videos, that of their sounds, and which of them to take."""

    videos: str  # root of the .mp4
    sounds: str = ""  # root of the .m4a; empty: the videos have their sound
    only: str = ""  # a list: text file of people or utterances; empty: all that is there
    side: Literal["", "dev", "test"] = ""  # lines of the list to take; empty: all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side and not self.only:
            raise ValueError(f"side is {self.side} without a list; set only= to vox2_meta.csv")

    def find(self) -> Found:
        """The utterances that are there, or that the list names and are there."""
        root = Path(self.videos)
        if not root.is_dir():
            raise UserError(f"there is no folder {root}; set videos= to the root of the tree id/video/utterance.mp4")
        found = Found([])
        people, utterances = self._wanted(root)
        for person in people:
            mine = list(_utterances(root, [person]))
            utterances += mine
            if not mine:
                found.missing.append((person, f"no videos in {root / person}"))
        for parts in utterances:
            name, path = "_".join(parts), root.joinpath(*parts).with_suffix(".mp4")
            sound = Path(self.sounds).joinpath(*parts).with_suffix(".m4a") if self.sounds else None
            if not path.is_file():
                found.missing.append((name, f"no {path}"))
            elif sound is not None and not sound.is_file():
                found.missing.append((name, f"no {sound}"))
            else:
                found.videos.append(
                    Video(
                        name=name,
                        path=path,
                        size=path.stat().st_size,
                        sound=sound,
                        person=parts[0],
                        origin=f"VoxCeleb2 {'/'.join(parts)}",
                    )
                )
        if not found.videos and not found.missing:
            raise UserError(
                f"no id/video/utterance.mp4 in {root}; set videos= to the folder that holds the folders id..."
            )
        return found

    def _wanted(self, root: Path) -> tuple[list[str], list[Parts]]:
        """People of whom everything is taken, and utterances of others."""
        if not self.only:
            return [], list(_utterances(root, sorted(path.name for path in root.iterdir())))
        people, utterances = _listed(Path(self.only), self.side)
        return sorted(people), sorted(parts for parts in utterances if parts[0] not in people)


def _utterances(root: Path, people: list[str]) -> Iterator[Parts]:
    """The utterances of people that are under a root, in order."""
    for person in filter(_PERSON.fullmatch, people):
        for path in sorted((root / person).glob("*/*.mp4")):
            if _VIDEO.fullmatch(path.parent.name) and path.stem.isdecimal():
                yield person, path.parent.name, path.stem


def _listed(path: Path, side: str) -> tuple[set[str], set[Parts]]:
    """The people and the utterances of the lines of a list that end in `side`."""
    people: set[str] = set()
    utterances: set[Parts] = set()
    for words in lines_of(path):
        line = " ".join(words)
        if side and not re.search(rf"[\s,]{side}$", line):
            continue
        utterance, person = _UTTERANCE.search(line), _PERSON.search(line)
        if utterance:
            utterances.add((utterance[1], utterance[2], utterance[3]))
        elif person:
            people.add(person[0])
    if not people and not utterances:
        of_side = f" whose line ends in {side}" if side else ""
        raise UserError(f"{path} names no person id00012 and no id00012/VIDEO/00001{of_side}; take another list")
    return people, utterances
