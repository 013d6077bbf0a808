import json
import re
from pathlib import Path

import pytest

from modules.system.errors import UserError
from tasks.evaluation.results import video_path
from tasks.evaluation.study import study_results, write_study
from tests.videos import counting_frames, write_video

METHODS, CASES = ["truth", "still", "mine"], ["anna", "bert"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for method in METHODS:
        for case in CASES:
            write_video(video_path(tmp_path, method, case), counting_frames(4))
    write_study(tmp_path, METHODS, CASES, seed=1)
    return tmp_path


def answers(folder: Path, person: str, scores: dict[str, int], **changes: object) -> None:
    """A person's file: a score for each method."""
    key = json.loads((folder / "study_key.json").read_text())
    given = {
        token: dict.fromkeys(("identity", "quality", "sync"), scores[video["method"]])
        for token, video in key["videos"].items()
    }
    (folder / "scores").mkdir(exist_ok=True)
    content = {"format": "real3d-study", "study": key["study"], "person": person, "scores": given} | changes
    (folder / "scores" / f"{person}.json").write_text(json.dumps(content))


def test_the_page_is_whole_and_blind(study: Path) -> None:
    page = (study / "study.html").read_text()
    assert page.count("<video") == 6 and page.count("<fieldset") == 18
    assert not re.search(r"(src|href)=['\"](?!data:)", page)  # nothing is read from elsewhere
    words = re.sub(r"base64,[\w+/=]+", "", page)
    assert not any(name in words for name in (*METHODS, *CASES))
    tokens = re.findall(r"data-token='(\w+)' data-question='identity'", page)
    assert tokens == list(json.loads((study / "study_key.json").read_text())["videos"])


def test_the_order_changes_with_the_seed_and_with_nothing_else(study: Path) -> None:
    def order(seed: int) -> list[tuple[str, str]]:
        write_study(study, METHODS, CASES, seed)
        videos = json.loads((study / "study_key.json").read_text())["videos"].values()
        return [(video["case"], video["method"]) for video in videos]

    assert order(1) == order(1) and len({tuple(order(seed)) for seed in range(6)}) > 1


def test_scores_become_table_3(study: Path) -> None:
    answers(study, "p", {"truth": 5, "still": 1, "mine": 3})
    answers(study, "q", {"truth": 5, "still": 2, "mine": 4})
    answers(study, "wrong", {"truth": 9, "still": 2, "mine": 4})
    answers(study, "other", {"truth": 1, "still": 1, "mine": 1}, study="another")
    text = study_results(study / "scores")
    table = json.loads((study / "scores" / "table3.json").read_text())
    assert table["mine"]["identity"]["mean"] == 3.5 and table["truth"]["sync"]["mean"] == 5
    assert table["mine"]["identity"]["low"] == 3 and table["mine"]["identity"]["high"] == 4
    assert "2 people" in text and "wrong.json is left out" in text and "other.json is left out" in text
    assert study_results(study / "scores") == text  # its own table is no person


def test_a_study_without_key_or_scores_is_refused(study: Path, tmp_path: Path) -> None:
    (study / "scores").mkdir()
    with pytest.raises(UserError, match="no scores of this study"):
        study_results(study / "scores")
    (study / "study_key.json").unlink()
    with pytest.raises(UserError, match="no study_key"):
        study_results(study / "scores")


def test_a_study_needs_two_videos(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two methods"):
        write_study(tmp_path, METHODS, CASES, seed=0)
