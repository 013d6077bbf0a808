from pathlib import Path

import numpy as np
import pytest

from modules.analysis.crop import Box
from tasks.evaluation.clips import TrueClip
from tasks.evaluation.methods import VideoFolder, to_size

CLIP = TrueClip(Path("a.mp4"), shape=(90, 120), box=Box(80, 10, 120, 50), size=32, count=5, rate=25.0)


@pytest.mark.parametrize(("shape", "value"), [((90, 120), 200), ((60, 100), 100), ((32, 32), 50), ((64, 64), 100)])
def test_frames_of_any_size_become_squares_by_the_rule(shape: tuple[int, int], value: int) -> None:
    frame = np.full((*shape, 3), 50, np.uint8)
    height, width = shape
    side = min(shape)
    if shape != (32, 32):
        frame[:, (width - side) // 2 : (width + side) // 2] = 100  # the central square
    if shape == CLIP.shape:
        frame[10:50, 80:120] = 200  # the clip's own square
    square = VideoFolder.square(frame, CLIP)
    assert square.shape == (32, 32, 3) and (square == value).all()


def test_smaller_and_larger_frames_get_the_size() -> None:
    frames = [np.full((side, side, 3), 7, np.uint8) for side in (16, 32, 64)]
    assert [frame.shape[0] for frame in to_size(iter(frames), 32)] == [32, 32, 32]
