from pathlib import Path

import numpy as np
import pytest

from modules.analysis import segmentation
from modules.analysis.clip_segmentation import KEY_STEP, segment_clip
from modules.analysis.crop import Box, crop_landmarks, crop_picture
from modules.analysis.landmarks import detect_clip
from modules.analysis.segmentation import ANALYSIS_SIZE, segment, shows_part
from modules.analysis.segmentation_classes import HAIR
from modules.media.video_reader import open_video

SQUARE = Box(16, 0, 496, 480)


@pytest.fixture
def without_models(monkeypatch):
    """Hair is what is red, a person what is red or green; pictures that were looked at are counted."""
    looked_at = []

    def hair(picture: np.ndarray) -> np.ndarray:
        looked_at.append(picture)
        return (picture[..., 0] > 128).astype(np.float32)

    monkeypatch.setattr(segmentation, "has_multiclass_model", lambda: False)
    monkeypatch.setattr(segmentation, "hair_confidence", hair)
    monkeypatch.setattr(
        segmentation, "person_confidence", lambda picture: (picture[..., :2].max(-1) > 128).astype(np.float32)
    )
    return looked_at


def moving_head(frames: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """A head that moves `step` pixels to the right a frame, hair above: pictures of 512 and landmarks."""
    rows, columns = np.mgrid[:512, :512]
    pictures, points = np.zeros((frames, 512, 512, 3), np.uint8), np.zeros((frames, 478, 2))
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    for k in range(frames):
        x = 200 + step * k
        oval = ((columns - x) / 80) ** 2 + ((rows - 280) / 100) ** 2 < 1
        hair = (((columns - x) / 90) ** 2 + ((rows - 220) / 90) ** 2 < 1) & (rows < 220)
        pictures[k][oval] = (0, 200, 0)
        pictures[k][hair] = (200, 0, 0)
        points[k] = np.stack([x + 80 * np.cos(angles), 280 + 100 * np.sin(angles)], axis=1) / 512
        points[k, 152], points[k, 10] = (x / 512, 380 / 512), (x / 512, 180 / 512)  # chin, forehead
    return pictures, points


def test_pictures_and_classes_are_of_the_square(without_models):
    pictures, points = moving_head(4, 0.0)
    pairs = list(segment_clip(pictures, SQUARE, crop_landmarks(points, (512, 512), SQUARE), 64))
    assert len(pairs) == 4
    for picture, classes in pairs:
        np.testing.assert_array_equal(picture, crop_picture(pictures[0], SQUARE, 64))
        assert classes.shape == (64, 64) and classes.dtype == np.uint8
        assert classes[20, 24] == HAIR and not classes[:, 45:].any()


@pytest.mark.parametrize("frames", [1, KEY_STEP, KEY_STEP + 1, 3 * KEY_STEP - 2])
def test_every_frame_has_classes_and_few_are_looked_at(without_models, frames):
    pictures, points = moving_head(frames, 0.0)
    assert len(list(segment_clip(pictures, Box(0, 0, 512, 512), points, 512))) == frames
    assert len(without_models) == 1 + -(-(frames - 1) // KEY_STEP)


def test_classes_between_two_looks_move_with_the_picture(without_models):
    frames = 2 * KEY_STEP + 1
    pictures, points = moving_head(frames, 6.0)
    for k, (_, classes) in enumerate(segment_clip(pictures, Box(0, 0, 512, 512), points, 512)):
        expected = pictures[k, ..., 0] > 128
        found = classes == HAIR
        assert (found & expected).sum() / (found | expected).sum() > 0.95, k


@pytest.mark.parametrize("name", ["talk_woman_25fps", "talk_woman_torso_30fps"])
def test_a_real_clip_is_divided_as_its_frames_alone(media: Path, assets: Path, name: str):
    frames = [frame for frame, _ in zip(open_video(media / "driving" / f"{name}.mp4")[1], range(11))]
    landmarks = detect_clip(frames)
    alone = np.stack([segment(frame, points) for frame, points in zip(frames, landmarks)])
    together = np.stack([classes for _, classes in segment_clip(frames, Box(0, 0, 512, 512), landmarks, ANALYSIS_SIZE)])
    assert (alone == together).mean() > 0.985
    head, also = shows_part(alone, "head"), shows_part(together, "head")
    assert (head & also).sum() / (head | also).sum() > 0.975
