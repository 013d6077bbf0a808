import numpy as np
import pytest

from data_gen.sources.base import Video, Window
from data_gen.sources.folder import VideoDataConfig
from modules.analysis.crop import Box
from tests.videos import counting_frames, levels, write_video


def test_a_window_of_fractions_fits_any_picture():
    window = Window(0.25, 0.0, 0.75, 0.5)
    assert window.box((100, 200, 3)) == Box(50, 0, 150, 50) and window.box((50, 100, 3)) == Box(25, 0, 75, 25)


def test_a_window_of_pixels_follows_the_height_of_the_download():
    window = Window(480, 0, 960, 480, height=720)
    assert window.box((720, 1280, 3)) == Box(480, 0, 960, 480) and window.box((360, 640, 3)) == Box(240, 0, 480, 240)


def test_a_margin_widens_a_window_up_to_the_picture():
    assert Window(0.25, 0.0, 0.75, 0.5).box((100, 200), margin=0.1) == Box(40, 0, 160, 55)


@pytest.mark.parametrize("window", [Window(1000, 0, 1480, 480, height=100), Window(0.5, 0.5, 0.51, 0.51)])
def test_a_window_that_leaves_nothing_is_refused(window):
    with pytest.raises(ValueError, match="published rectangle"):
        window.box((100, 200, 3))


def test_a_part_of_a_video_is_cut_in_time_and_place(tmp_path):
    frames = np.array(counting_frames(20, 48, 64))
    frames[:, :, :32] = 0
    path = write_video(tmp_path / "a.mp4", frames)
    video = Video(name="a", path=path, size=1, start=0.2, stop=0.4, window=Window(0.5, 0, 1, 1))
    part = list(video.frames())
    assert levels(part) == [5, 6, 7, 8, 9] and part[0].shape == (48, 32, 3)


@pytest.mark.parametrize("setting", [{"size": 95}, {"shortest": 5, "longest": 4}, {"workers": 0}])
def test_impossible_settings_of_any_source_are_refused(setting):
    with pytest.raises(ValueError, match=str(next(iter(setting.values())))):
        VideoDataConfig(videos="raw", **setting)
