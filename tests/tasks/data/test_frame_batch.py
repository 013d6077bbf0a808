import pytest
import torch

from modules.analysis.segmentation_classes import HEAD_CLASSES, TORSO_CLASSES
from modules.geometry.camera import pose_camera
from modules.portrait.build import build_portrait
from modules.portrait.driving import DrivingConfig
from tasks.data.frame_batch import AFTER, BEFORE, SOURCE, TARGET, FrameBatch
from tests.tasks.tiny_images import SIZE, pair_batch, tiny_model

CONFIG = DrivingConfig.demo()


@pytest.fixture
def batch(generator):
    batch = pair_batch(generator)
    batch["pncc"] = torch.arange(5, dtype=torch.uint8).view(1, 5, 1, 1, 1).repeat(2, 1, 3, SIZE, SIZE)
    batch["euler"] = 0.1 * torch.arange(12.0).view(2, 2, 3)
    return batch


def as_bytes(pncc: torch.Tensor) -> set[int]:
    return set(((pncc + 1) * 127.5).round().int().unique().tolist())


def test_each_frame_has_its_picture_head_and_camera(batch):
    frames = FrameBatch(batch, CONFIG)
    for number, frame in enumerate((frames.source, frames.target)):
        assert frame.image.shape == (2, 3, SIZE, SIZE) and frame.image.abs().max() <= 1
        head, torso = frame.mask(HEAD_CLASSES), frame.mask(TORSO_CLASSES)
        assert head.any() and torso.any() and not (head & torso).any()
        assert torch.equal(frame.head, torch.where(head, frame.image, -1.0))
        expected = pose_camera(batch["euler"][:, number], batch["translation"][:, number], CONFIG.focal_length)
        assert torch.equal(frame.camera.vector(), expected.vector())
        view = frame.head_view(8)
        assert view.image is frame.head and view.image_raw.shape == (2, 3, 8, 8)


def test_pnccs_are_given_by_name(batch):
    frames = FrameBatch(batch, CONFIG)
    for number in (SOURCE, TARGET, BEFORE, AFTER):
        pncc = frames.pncc_of(number)
        assert (as_bytes(pncc.canonical), as_bytes(pncc.source), as_bytes(pncc.driving)) == ({0}, {1}, {number})
    assert as_bytes(frames.driving(frames.source).pncc.driving) == {SOURCE}
    assert as_bytes(frames.driving(frames.target).pncc.driving) == {TARGET}
    assert len(frames.variants("closed")) == 3 and as_bytes(frames.variants("closed")[0].source) == {1}


def test_lips_are_boxed_and_have_a_middle(batch):
    frame = FrameBatch(batch, CONFIG).target
    x0, x1, y0, y1 = frame.lip_boxes.unbind(dim=1)
    x, y = (frame.mouth * SIZE).unbind(dim=1)
    assert ((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)).all()


def test_the_photo_of_stage_3_has_its_surroundings(batch):
    frames, decoder = FrameBatch(batch, CONFIG), build_portrait(tiny_model(3)).decoder
    inpainted, raw = (frames.photo_with_surroundings(decoder, kind).surroundings for kind in (True, False))
    assert torch.equal(raw.background, frames.source.image) and not torch.equal(inpainted.background, raw.background)
    assert torch.equal(inpainted.classes.argmax(dim=1), frames.source.classes.long())
    points = frames.driving_with_keypoints(frames.target, decoder).keypoints
    assert torch.allclose(points[..., :2], 2 * frames.target.landmarks - 1) and (points[..., 2] == 0).all()
    assert frames.photo().surroundings is None
