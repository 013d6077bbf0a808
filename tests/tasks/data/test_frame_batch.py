import pytest
import torch

from modules.analysis.segmentation_classes import HEAD_CLASSES, TORSO_CLASSES
from modules.face3d.blink import close_eyes
from modules.geometry.camera import pose_camera
from modules.media.pixels import to_float
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
    assert len(frames.closed()) == 3 and as_bytes(frames.closed()[0].source) == {1}


@pytest.fixture
def coefficients(batch, generator):
    """The batch with coefficients instead of PNCCs."""
    del batch["pncc"]
    return batch | {
        "identity": torch.rand(2, 80, generator=generator),
        "expression": torch.rand(2, 4, 64, generator=generator),
    }


class Painter:
    """Draws one colour, that of the first expression coefficient, and remembers how many were asked for."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, identity, expression):
        assert identity.shape[0] == expression.shape[0]
        self.counts.append(len(identity))
        return (identity[:, :1] + expression[:, :1] - 1)[..., None, None].expand(-1, 3, 8, 8)


def test_only_the_pnccs_that_are_asked_for_are_drawn_and_once(coefficients):
    draw = Painter()
    frames = FrameBatch(coefficients, CONFIG, draw)
    inputs = frames.pncc_of(TARGET)
    assert draw.counts == [6]  # three of two samples, together
    frames.driving(frames.source), frames.pncc_of(TARGET)
    assert draw.counts == [6]
    frames.pncc_of(BEFORE)
    assert draw.counts == [6, 2]
    first, known = coefficients["identity"][:, 0] - 1, coefficients["expression"][:, :, 0]
    for pncc, expected in (
        (inputs.canonical, first),
        (inputs.source, first + known[:, 0]),
        (inputs.driving, first + known[:, 1]),
        (frames.pncc_of(BEFORE).driving, first + known[:, 2]),
        (frames.pncc_of(AFTER).driving, first + known[:, 3]),
    ):
        assert torch.allclose(pncc[:, 1, 2, 3], expected)
    with pytest.raises(ValueError, match="give `draw`"):
        FrameBatch(coefficients, CONFIG).pncc_of(TARGET)


def test_noise_is_compared_with_the_frame_that_has_it(coefficients):
    coefficients["perturbed_number"] = torch.tensor([SOURCE, TARGET])
    frames = FrameBatch(coefficients, CONFIG, Painter())
    exact, noisy = frames.perturbed()
    source, target = frames.pncc(SOURCE, TARGET)
    assert torch.equal(exact.driving, torch.stack([source[0], target[1]]))
    expected = coefficients["perturbed_identity"][:, 0] + coefficients["perturbed_expression"][:, 0] - 1
    assert torch.allclose(noisy.driving[:, 0, 0, 0], expected)


def test_the_eyes_of_the_target_close_more_and_more(batch):
    face = torch.full((3, SIZE, SIZE), 200, dtype=torch.uint8)
    face[:, 9:15, 10:14] = face[:, 9:15, 18:22] = 0  # two holes
    batch["closing"] = torch.tensor([0.2, 0.5, 0.9]).repeat(2, 1)
    batch["pncc"][:, TARGET] = face
    frames = FrameBatch(batch, CONFIG)
    holes = [(pncc.driving == -1).sum() for pncc in (frames.pncc_of(TARGET), *frames.closed())]
    assert holes[0] > holes[1] > holes[2] > holes[3] >= 0
    for number, pncc in enumerate(frames.closed()):
        amount = float(batch["closing"][1, number])
        assert torch.equal(pncc.driving[1], close_eyes(frames.pncc_of(TARGET).driving[1], amount))


def test_a_composed_frame_is_the_person_over_the_background_of_the_clip(batch):
    raw, composed = (FrameBatch(batch, CONFIG, composed=kind) for kind in (False, True))
    background = to_float(batch["background"])
    for name in ("source", "target"):
        frame, plain = getattr(composed, name), getattr(raw, name)
        person = (frame.classes > 0)[:, None].expand(-1, 3, -1, -1)
        assert torch.equal(frame.image[person], plain.image[person])
        assert torch.equal(frame.image[~person], background[~person]) and not torch.equal(frame.image, plain.image)
        assert torch.equal(frame.head, plain.head)


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
