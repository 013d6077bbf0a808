from pathlib import Path

import pytest

from data_gen.faces import FaceLimits
from data_gen.sources.folder import VideoDataConfig
from scripts.profile_data import LOOKING, StepTimes, core_hours, main, profile, table
from tests.data_gen.stand_in import StandIn, install, talking_head
from tests.videos import tone, write_video


def test_times_of_a_step_add_up_and_leave_out_what_is_outside():
    times = StepTimes()
    for _ in range(2):
        with times.step("work"):
            sum(range(300_000))
    once = times.seconds["work"]
    sum(range(3_000_000))
    assert once > 0 and times.seconds == {"work": once}


def test_the_table_has_shares_and_leaves_decoding_out_of_the_second_sum():
    text = table(100, {"decoding": 1.0, "fit of the face model": 3.0})
    assert "| decoding | 10.00 | 25 % |" in text and "| fit of the face model | 30.00 | 75 % |" in text
    assert "| landmarks, masks, fit, composition | 30.00 | 75 % |" in text
    assert "| all | 40.00 | 100 % |" in text and "| all but decoding | 30.00 | 75 % |" in text
    assert core_hours(65.0, 0.04) == pytest.approx(65.0) and text.endswith("CelebV-HQ 65, VoxCeleb2 2000")


def test_every_step_of_a_video_is_timed(tmp_path: Path, monkeypatch):
    frames, landmarks = talking_head()
    install(monkeypatch, StandIn(frames, landmarks))
    monkeypatch.setattr("scripts.profile_data.FEWEST", 5)
    path = write_video(tmp_path / "talk.mp4", frames, tone(len(frames) / 25))
    limits = FaceLimits(smallest_face=40)
    config = VideoDataConfig(videos=str(path), face_model="procedural", size=96, limits=limits)
    count, seconds = profile(path, config, 8)
    assert count == 8 and len(seconds) == 9 and min(seconds.values()) > 0
    assert list(seconds)[0] == "decoding" and set(LOOKING) < set(seconds)


def test_too_few_frames_are_refused(tmp_path: Path, capsys):
    assert main([str(tmp_path / "a.mp4"), "--frames", "3"]) == 2
    assert "--frames is 3" in capsys.readouterr().err
