"""The example of the 3D side, with few frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.views import a_part_twice, from_the_side, inside, turntable
from inference.pipeline import TalkingPortrait
from modules.media.video_reader import open_video
from modules.system.assets import DEMO_CHECKPOINT


@pytest.fixture(scope="module")
def talker() -> TalkingPortrait:
    return TalkingPortrait.load(DEMO_CHECKPOINT, "cpu")


def test_a_head_is_nearest_in_its_middle_and_missing_at_the_border(talker: TalkingPortrait, tmp_path: Path) -> None:
    from_the_side(talker, tmp_path)
    depth = np.array(Image.open(tmp_path / "depth.png"))
    assert np.array(Image.open(tmp_path / "side.png")).shape == (256, 256, 3)
    assert depth[100:140, 110:150].mean() > 200 and depth[:, :20].max() == 0


def test_a_turntable_is_written(talker: TalkingPortrait, tmp_path: Path) -> None:
    turntable(talker, tmp_path, frames=2)
    assert Image.open(tmp_path / "turntable.webp").n_frames == 2


def test_a_head_is_dense_in_its_middle_and_the_air_is_not(talker: TalkingPortrait) -> None:
    found = inside(talker)
    assert found["middle"] > 10 and found["in front"] < 0.1


def test_a_motion_is_cut_and_joined(talker: TalkingPortrait, tmp_path: Path) -> None:
    a_part_twice(talker, DEMO_CHECKPOINT / "speech.wav", tmp_path, rows=2)
    assert sum(1 for _ in open_video(tmp_path / "again.mp4")[1]) == 4
