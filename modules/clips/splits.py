"""Who is trained on and who is held out: clips are divided by person, so that nobody is on two sides.

A person is what the clip says (`person_of`): the identity that its data names, else its video. Which side a person is
on is a function of the seed and the name alone, and so does not change when data is added; or a file says it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modules.clips.format import list_clips, person_of
from modules.clips.store import StoreConfig, clip_folder
from modules.system.config import load_yaml, nearest
from modules.system.errors import UserError

SIDES = ("train", "validation", "test")
_SHOWN = 3  # people that an error names


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The people that are held out.

    Attributes:
        validation, test: shares of the people, by chance; 0: nobody, so that a training does not validate.
        seed: of that chance.
        file: a YAML or JSON of lists of people, `train`, `validation` and `test`, instead of chance.
    """

    validation: float = 0.01
    test: float = 0.01
    seed: int = 0
    file: str = ""

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation is {self.validation} and test {self.test}; they are shares of the people, from 0 to "
                "together less than 1"
            )


@dataclass(frozen=True)
class ClipSplit:
    """Folders of clips by side, each sorted by name; nobody is on two sides."""

    train: list[Path]
    validation: list[Path]
    test: list[Path]


def split_clips(
    folder: str,
    config: SplitConfig,
    validation_folder: str = "",
    usable: Callable[[Path], bool] | None = None,
    store: StoreConfig | None = None,
) -> ClipSplit:
    """Divide the clips of a folder.

    Where chance, in a small folder, leaves nobody for validation, the person whose number is the next is held out.

    Args:
        validation_folder: a folder of clips for validation; then all of `folder` are trained on.
        usable: says of a clip whether it can be used at all (speech needs sound); None: all can.
        store: how a folder is read that is an address such as s3://bucket/prefix; None: the defaults.
    Raises:
        UserError: there are no clips, a side that is asked for has nobody, somebody is in both folders or on two
            sides of the file, or the file does not know somebody.
    """
    people = {clip: person_of(clip) for clip in _usable(folder, usable, store)}
    if validation_folder:
        try:
            held_out = {clip: person_of(clip) for clip in _usable(validation_folder, usable, store)}
        except UserError as error:
            raise UserError(f"{error}; {own_people(folder)}") from error
        both = sorted({*people.values()} & {*held_out.values()})
        if both:
            raise UserError(f"{_few(both)} in {folder} and in {validation_folder}; remove one of them from one of both")
        return ClipSplit(list(people), list(held_out), [])
    names = sorted({*people.values()})
    sides = sides_of_file(Path(config.file), names, folder) if config.file else sides_by_chance(names, config)
    split = ClipSplit(*([clip for clip, name in people.items() if sides[name] == side] for side in SIDES))
    if not split.train or not split.validation and (config.file or config.validation > 0):
        side = "validation" if split.train else "train"
        by = config.file or f"seed {config.seed} and the share {getattr(config, side, 'that is left')}"
        raise UserError(
            f"of the {len(names)} people in {folder} nobody is for {side} by {by}; change it (data.split.validation, "
            "data.split.seed), name a data.validation_folder, or train without validation (data.split.validation=0)"
        )
    return split


def own_people(folder: str) -> str:
    """What else can be done where a folder for validation has no clips."""
    return f"or hold out people of {folder} itself: data.validation_folder= with nothing behind it"


def check_folders(validation_folder: str, config: SplitConfig) -> None:
    """Refuse two answers to who is held out: ValueError, for the configs of data sets."""
    if validation_folder and config.file:
        raise ValueError(f"validation_folder is {validation_folder} and split.file {config.file}; give one of them")


def sides_by_chance(people: list[str], config: SplitConfig) -> dict[str, str]:
    """The side of each person; of two or more, somebody is for validation if its share is above 0."""
    sides = {person: side_of(person, config) for person in people}
    rest = [person for person in people if sides[person] == "train"]
    if config.validation > 0 and "validation" not in sides.values() and len(rest) > 1:
        sides[min(rest, key=lambda person: _chance(person, config))] = "validation"
    return sides


def side_of(person: str, config: SplitConfig) -> str:
    """The side of a person by chance, of `SIDES`."""
    chance = _chance(person, config)
    if chance < config.test:
        return "test"
    return "validation" if chance < config.test + config.validation else "train"


def _chance(person: str, config: SplitConfig) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.sha256(f"{config.seed} {person}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _usable(folder: str, usable: Callable[[Path], bool] | None, store: StoreConfig | None) -> list[Path]:
    clips = list_clips(clip_folder(folder, store or StoreConfig()))
    good = [clip for clip in clips if usable is None or usable(clip)]
    if not good:
        raise UserError(f"none of the {len(clips)} clips in {folder} has sound; prepare others, or name another folder")
    return good


def sides_of_file(path: Path, people: list[str], folder: str) -> dict[str, str]:
    """The side of each person in a file.

    Args:
        people: all who must be in it.
        folder: where they are, for the message.
    Raises:
        UserError: the file is no split, has somebody on two sides, or lacks one of `people`.
    """
    sides: dict[str, str] = {}
    for side, names in _lists(path).items():
        for name in names:
            if sides.setdefault(name, side) != side:
                raise UserError(f"{path}: {name} is on two sides, {sides[name]} and {side}; keep one of them")
    unknown = [name for name in people if name not in sides]
    if unknown:
        raise UserError(f"{path}: {_few(unknown)} in {folder} and on no side; add them to {', '.join(SIDES)}")
    return sides


def _lists(path: Path) -> Mapping[str, list[str]]:
    values = load_yaml(path)
    for side, names in values.items():
        if side not in SIDES:
            raise UserError(f"{path}: unknown key {side}{nearest(side, SIDES)}")
        wrong = [name for name in names if not isinstance(name, str)] if isinstance(names, list) else [names]
        if wrong:
            raise UserError(f"{path}: {side} must be a list of names of people, not {wrong[0]!r}; put it in quotes")
    return values


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"
