import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modules.clips.splits import SplitConfig, check_folders, side_of, split_clips
from modules.system.errors import UserError


def write_people(folder: Path, *clips: str, **names: str) -> str:
    """Clips that hold nothing but who they show."""
    for clip in clips:
        (folder / clip).mkdir(parents=True)
        np.savez(folder / clip / "clip.npz", **names)
    return str(folder)


@pytest.fixture
def crowd(tmp_path):
    """60 people of two videos each, which are two clips each."""
    for number in range(60):
        for video in ("a", "b"):
            name = f"id{number:02d}_{video}"
            write_people(tmp_path / "clips", f"{name}_000000", f"{name}_000125", person=f"id{number:02d}", video=name)
    return str(tmp_path / "clips")


CHANCE = SplitConfig(validation=0.2, test=0.1)


def people(clips: list[Path]) -> set[str]:
    return {clip.name[:4] for clip in clips}


def test_nobody_is_on_two_sides_and_every_clip_on_one(crowd):
    split = split_clips(crowd, CHANCE)
    sides = [people(side) for side in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 60
    assert len({*split.train, *split.validation, *split.test}) == 240
    assert 5 <= len(sides[1]) <= 20 and 1 <= len(sides[2]) <= 14


def test_a_side_does_not_change_when_data_is_added_and_does_with_the_seed(crowd):
    before = split_clips(crowd, CHANCE)
    write_people(Path(crowd), *(f"new{number}_000000" for number in range(30)))
    after = split_clips(crowd, CHANCE)
    assert {*before.train} <= {*after.train} and {*before.validation} <= {*after.validation}
    assert people(split_clips(crowd, replace(CHANCE, seed=1)).validation) != people(after.validation)
    assert side_of("id37", replace(CHANCE, validation=0.6)) == side_of("id37", replace(CHANCE, validation=0.61))


def test_sides_are_the_same_on_every_machine_and_in_every_process():
    config = SplitConfig(validation=0.4, test=0.2)
    sides = [side_of(f"id{number:02d}", config)[:2] for number in range(10)]
    assert sides == ["va", "tr", "te", "va", "va", "tr", "tr", "te", "tr", "tr"]


def test_of_few_people_somebody_is_held_out_and_only_usable_clips_count(tmp_path):
    folder = write_people(tmp_path / "clips", "a_000000", "b_000000", "c_000000")
    split = split_clips(folder, SplitConfig())
    assert len(split.validation) == 1 and len(split.train) == 2
    assert split_clips(folder, SplitConfig()) == split
    silent = split.validation[0]
    heard = split_clips(folder, SplitConfig(), usable=lambda clip: clip != silent)
    assert len(heard.validation) == 1 and silent not in heard.validation + heard.train
    with pytest.raises(UserError, match="none of the 3 clips"):
        split_clips(folder, SplitConfig(), usable=lambda clip: False)


def test_without_validation_nobody_is_held_out_for_it(crowd):
    split = split_clips(crowd, SplitConfig(validation=0, test=0))
    assert len(split.train) == 240 and not split.validation and not split.test


def test_a_folder_for_validation_leaves_all_others_to_training(crowd, tmp_path):
    held_out = write_people(tmp_path / "held_out", "someone_000000")
    split = split_clips(crowd, SplitConfig(), held_out)
    assert len(split.train) == 240 and [clip.name for clip in split.validation] == ["someone_000000"]
    write_people(tmp_path / "held_out", "id07_c_000000", person="id07")
    with pytest.raises(UserError, match="^id07 is in .*clips and in .*held_out"):
        split_clips(crowd, SplitConfig(), held_out)
    with pytest.raises(ValueError, match="give one of them"):
        check_folders(held_out, SplitConfig(file="split.yaml"))


def test_a_file_says_who_is_where(tmp_path):
    folder = write_people(tmp_path / "clips", "a_000000", "a_000100", "b_000000", "c_000000")
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["a", "absent"], "validation": ["b"], "test": ["c"]}, indent=1))
    split = split_clips(folder, SplitConfig(file=str(path)))
    names = [[clip.name for clip in side] for side in (split.train, split.validation, split.test)]
    assert names == [["a_000000", "a_000100"], ["b_000000"], ["c_000000"]]


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: [a, b]\nvalidation: [b]", "b is on two sides, train and validation; keep one"),
        ("train: [a]\nvalidation: [absent]", "b is in .* and on no side"),
        ("train: [a, b]\nvalidation: [absent]", "nobody is for validation by .*split.yaml"),
        ("train: [a, b]", "nobody is for validation by .*split.yaml"),
        ("validation: [a, b]", "nobody is for train by"),
        ("train: [a]\nvalid: [b]", "unknown key valid; did you mean validation?"),
        ("train: [a, 17]\nvalidation: [b]", "train must be a list of names of people, not 17; put it in quotes"),
        ("train: a\nvalidation: [b]", "train must be a list of names of people, not 'a'"),
        ("[a, b]", "must hold `key: value` lines"),
    ],
)
def test_a_file_that_does_not_divide_is_refused_in_one_line(tmp_path, text, message):
    folder = write_people(tmp_path / "clips", "a_000000", "b_000000")
    (tmp_path / "split.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        split_clips(folder, SplitConfig(file=str(tmp_path / "split.yaml")))
    assert "\n" not in str(caught.value)


def test_one_person_of_whom_nobody_is_held_out_is_refused_in_one_line(tmp_path):
    folder = write_people(tmp_path / "clips", "a_000000", "a_000100")
    with pytest.raises(UserError, match="of the 1 people in .* nobody is for validation by seed 0 and the share 0.01"):
        split_clips(folder, SplitConfig())
    write_people(tmp_path / "clips", "b_000000")
    with pytest.raises(UserError, match="nobody is for train"):
        split_clips(folder, SplitConfig(validation=0.999, test=0))


@pytest.mark.parametrize("shares", [{"validation": -0.1}, {"validation": 0.6, "test": 0.4}])
def test_shares_that_leave_nobody_are_refused(shares):
    with pytest.raises(ValueError, match="shares of the people"):
        SplitConfig(**shares)


def test_where_nobody_is_in_the_folder_for_validation_ones_own_people_may_be_held_out(crowd, tmp_path):
    with pytest.raises(UserError, match=r"no prepared clips in .*nobody; .*or hold out .*data\.validation_folder= "):
        split_clips(crowd, CHANCE, str(tmp_path / "nobody"))
    with pytest.raises(UserError, match="no prepared clips") as caught:
        split_clips(str(tmp_path / "nobody"), CHANCE, crowd)
    assert "validation_folder" not in str(caught.value)
