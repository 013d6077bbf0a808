from pathlib import Path

import numpy as np
import pytest
import soundfile

from modules.system.errors import UserError
from tasks.evaluation.clips import central_square, list_videos, write_sound
from tests.videos import counting_frames, tone, write_video


def test_the_central_square_lies_in_the_middle() -> None:
    box = central_square((100, 160))
    assert (box.left, box.top, box.right, box.bottom) == (30, 0, 130, 100)


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "readme.md").touch()
    assert list_videos(tmp_path) == ({"a": tmp_path / "a.mp4"}, 1)
    (tmp_path / "a.mov").touch()
    with pytest.raises(UserError, match="two videos called a"):
        list_videos(tmp_path)


def test_sound_is_as_long_as_the_pictures(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", counting_frames(10), sound=tone(1.0))
    assert write_sound(clip, 15, tmp_path / "sound.wav")
    wave, rate = soundfile.read(tmp_path / "sound.wav")
    assert len(wave) == 15 * rate // 25
    assert np.abs(wave[: rate // 4]).max() > 0.3 and np.abs(wave[-rate // 10 :]).max() < 0.05  # then silence


def test_a_clip_without_sound_says_so(tmp_path: Path) -> None:
    assert not write_sound(write_video(tmp_path / "clip.mp4", counting_frames(3)), 3, tmp_path / "sound.wav")
