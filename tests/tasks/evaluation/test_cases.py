from pathlib import Path

import pytest

from modules.system.errors import UserError
from tasks.evaluation.cases import Case, list_cases, next_clips
from tasks.evaluation.settings import EvaluationConfig


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_nobody_drives_the_clip_that_they_are_from() -> None:
    names = ["a", "b", "c"]
    pairs = next_clips(names, names)
    assert pairs == [("a", "b"), ("b", "c"), ("c", "a")]


def test_all_photos_and_all_clips_are_used() -> None:
    assert {source for source, _ in next_clips(["p", "q", "r"], ["a", "b"])} == {"p", "q", "r"}
    assert {driver for _, driver in next_clips(["p"], ["a", "b", "c"])} == {"a", "b", "c"}


def test_pairs_may_be_given_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "clips", "a.mp4", "b.mp4", "notes.txt")
    cases, notes = list_cases(EvaluationConfig(protocol="cross_identity", videos=videos, pairs=(("b", "a"),)))
    assert [case.name for case in cases] == ["b__a"] and "1 other files" in notes[0]
    with pytest.raises(UserError, match="pairs names x"):
        list_cases(EvaluationConfig(protocol="cross_identity", videos=videos, pairs=(("x", "a"),)))


def test_more_cases_than_asked_for_are_counted(tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "clips", "a.mp4", "b.mp4", "c.mp4")
    cases, notes = list_cases(EvaluationConfig(protocol="same_identity", videos=videos, clips=2))
    assert [case.name for case in cases] == ["a", "b"] and "1 cases beyond" in notes[0]


def test_a_case_has_a_seed_of_its_own() -> None:
    one, two = (Case(name, Path(name), Path(name)) for name in ("a", "b"))
    assert len({one.seed(0), one.seed(1), two.seed(0)}) == 3 and one.seed(0) == Case("a", Path(), Path()).seed(0)
