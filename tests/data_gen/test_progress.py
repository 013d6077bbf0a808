import os
from dataclasses import replace

import pytest

from data_gen.progress import PreparationLog, Refusal, VideoReport, is_finished
from modules.system.errors import UserError

GOOD = VideoReport(name="good", size=10).with_clip(1500, True).with_clip(750, False)
REFUSALS = (Refusal(0.0, 2.0, "no face in view"), Refusal(3.0, 3.0, "damaged"))
BAD = VideoReport(name="bad name", size=20, refused=REFUSALS)


@pytest.fixture
def folder(tmp_path):
    log = PreparationLog(tmp_path / "clips", {"size": 512})
    log.add(GOOD)
    log.add(BAD)
    return log.folder


def test_what_any_run_has_finished_is_known_at_once(tmp_path):
    folder = tmp_path / "clips"
    assert not is_finished(folder, "good", 10)
    log = PreparationLog(folder, {})
    log.add(GOOD)
    assert is_finished(folder, "good", 10)
    assert not is_finished(folder, "good", 1) and not is_finished(folder, "goo", 10)


def test_a_folder_is_shared_while_something_happens_in_it(tmp_path, monkeypatch):
    first = PreparationLog(tmp_path / "clips", {"size": 512})
    assert not first.shared and PreparationLog(first.folder, {"size": 512}).shared
    for path in first.folder.iterdir():
        os.utime(path, (0, 0))
    assert not PreparationLog(first.folder, {"size": 512}).shared


def test_the_cost_of_all_runs_is_summed_up(folder):
    log = PreparationLog(folder, {"size": 512})
    log.add(replace(GOOD, name="dear", seconds=1800.0))
    log.add(replace(GOOD, name="dearer", seconds=5400.0))
    assert "min of video, 2 core-hours, 3 with sound; 2 parts" in PreparationLog(folder, {}).summary()


def test_a_later_run_knows_what_is_done(folder):
    log = PreparationLog(folder, {"size": 512})
    assert log.is_done("good", 10) and log.is_done("bad name", 20)
    assert not log.is_done("good", 11) and not log.is_done("other", 10)


def test_the_report_has_a_line_for_each_refusal(folder):
    lines = (folder / "rejected.tsv").read_text(encoding="utf-8").splitlines()
    assert lines == ["bad name\t0.00\t2.00\tno face in view", "bad name\t3.00\t3.00\tdamaged"]


def test_the_summary_counts_and_says_where(folder):
    assert PreparationLog(folder, {}).summary() == (
        f"{folder}: 2 clips of 2 videos, 1.5 min of video, 1 with sound; 2 parts refused, see {folder / 'rejected.tsv'}"
    )


def test_a_video_that_is_prepared_again_loses_its_refusals_and_counts_once(folder):
    log = PreparationLog(folder, {"size": 512})
    log.forget(["bad name"])
    log.add(VideoReport(name="bad name", size=21).with_clip(750, True))
    assert PreparationLog(folder, {}).summary() == f"{folder}: 3 clips of 2 videos, 2.0 min of video, 2 with sound"


def test_other_settings_and_a_folder_that_is_a_file_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="size=512, not 256"):
        PreparationLog(folder, {"size": 256})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be used"):
        PreparationLog(tmp_path / "file", {})


def test_a_line_that_was_cut_off_is_ignored(folder):
    with (folder / "done.tsv").open("a", encoding="utf-8") as file:
        file.write("half\t30")
    assert not PreparationLog(folder, {}).is_done("half", 30)


def test_reasons_that_differ_in_numbers_count_as_one(tmp_path):
    log = PreparationLog(tmp_path / "clips", {})
    turned = [f"the head is turned by {degrees} degrees (largest_turn 60)" for degrees in (61, 75)]
    log.add(VideoReport(name="a", size=1, refused=(Refusal(0, 2, turned[0]), Refusal(3, 4, "no face in view"))))
    log.add(VideoReport(name="b", size=1, refused=(Refusal(1, 2.5, turned[1]),)))
    first, second = log.refused_kinds()
    assert (first.reason, first.count, first.seconds) == ("the head is turned by N degrees (largest_turn N)", 2, 3.5)
    assert first.example == f"a: {turned[0]}" and second.reason == "no face in view"


def test_what_is_missing_is_of_the_last_run(tmp_path):
    log = PreparationLog(tmp_path / "clips", {})
    log.note_missing([("a", "no video"), ("b", "no video")])
    assert log.missing_count == 2 and log.summary().endswith("2 missing, see " + str(tmp_path / "clips/missing.tsv"))
    log.note_missing([])
    assert log.missing_count == 0 and "missing," not in log.summary()
