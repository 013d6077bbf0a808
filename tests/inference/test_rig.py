"""--renderer rig: a photo and a motion become frames of any size, before any background, with any number of threads."""

import cv2
import numpy as np
import pytest
import torch

from inference.motion import Motion
from inference.rig import RigPainter, procedural_rig_photo, rig_photo
from modules.procedural.head import procedural_model
from modules.system.errors import UserError
from tests.inference.test_pipeline import still_motion


@pytest.fixture(scope="module")
def painter() -> RigPainter:
    model = procedural_model()
    return RigPainter(procedural_rig_photo(900_007, model, 64), model, 64, torch.device("cpu"))


@pytest.fixture
def motion(generator) -> Motion:
    blink = torch.tensor([[0.0], [1.0], [0.0], [0.0]])
    euler = torch.tensor([[0.0, 0.15 * k, 0.0] for k in range(4)])
    return Motion(torch.zeros(4, 64), euler, torch.zeros(4, 3), blink, "procedural")


def test_the_first_frame_is_the_photo_and_the_head_turns(painter, motion):
    frames = np.stack(list(painter.frames(motion)))
    assert frames.shape == (4, 64, 64, 3) and frames.dtype == np.uint8
    size = painter.picture.shape[-1] // 64
    photo = torch.nn.functional.avg_pool2d(painter.picture, size)[0].permute(1, 2, 0).numpy()
    assert np.abs(frames[0] / 127.5 - 1 - photo).mean() < 0.06
    assert np.abs(frames[3].astype(int) - frames[0]).mean() > 3


def test_small_frames_are_large_ones_made_smaller(motion):
    """A photo that is not reduced aliases where its colours are looked up: 0.8 levels in the mean, here 0.3."""
    model = procedural_model()
    photo = procedural_rig_photo(900_007, model, 64)  # is larger
    small, large = (next(RigPainter(photo, model, size, torch.device("cpu")).frames(motion)) for size in (128, 512))
    reduced = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - reduced).mean() < 0.5


def test_threads_and_batches_change_nothing_that_is_seen(painter, motion):
    alone, threads, batch = (list(painter.frames(motion, **o)) for o in ({}, {"workers": 2}, {"batch": 4}))
    assert all(np.array_equal(a, b) for a, b in zip(alone, threads))
    assert np.abs(np.stack(alone).astype(int) - np.stack(batch)).mean() < 0.05


def test_backgrounds_are_replaced_or_left_out(painter, motion):
    green = torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    frame = next(painter.frames(motion, green))
    assert (frame[0, 0] == (0, 255, 0)).all()
    clear = next(painter.frames(motion, "transparent"))
    assert clear.shape == (64, 64, 4) and clear[0, 0, 3] == 0 and clear[40, 32, 3] == 255


def test_debug_frames_show_five_pictures(painter, motion):
    assert next(painter.debug_frames(motion)).shape == (64, 320, 3)


def test_a_real_photo_becomes_a_rig(media, assets):
    model = procedural_model()
    photo = rig_photo(media / "portraits" / "front_suit_man.png", model, 256)
    assert photo.picture.shape == (512, 512, 3) and photo.person.shape == (512, 512)
    still = Motion(photo.face.expression, torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 1), "procedural")
    painter = RigPainter(photo, model, 512, torch.device("cpu"))
    frame = next(painter.frames(still)).astype(float)
    head = np.isin(photo.classes, (1, 3, 5))
    error = ((frame - photo.picture)[head] ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 33


def test_a_rig_has_no_pose_but_the_photos(pipeline):
    painter = pipeline.painter(900_007, "rig", 64)
    assert next(pipeline.frames(painter, still_motion(1))).shape == (64, 64, 3)
    with pytest.raises(UserError, match="a rig always starts in the photo's pose"):
        next(pipeline.frames(painter, still_motion(1), pose_mode="absolute"))
