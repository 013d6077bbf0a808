import pytest
import torch

from modules.clips.pncc import FRAMES_AT_ONCE, PNCCPainter, all_pncc, pncc_painter, pncc_pixels
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.pncc import render_pncc
from modules.face_models import load_face_model
from modules.media.pixels import to_uint8


@pytest.fixture
def face():
    generator = torch.Generator().manual_seed(0)
    expression = 0.5 * torch.rand(FRAMES_AT_ONCE + 1, 64, generator=generator)
    return FaceCoefficients.neutral(FRAMES_AT_ONCE + 1).replace(expression=expression)


def test_pixels_are_those_of_the_face_model(face):
    model = load_face_model("procedural")
    pixels = pncc_pixels(model, face, [-1, 1], 32)
    expected = render_pncc(model, face.identity, torch.stack([torch.zeros(64), face.expression[1]]), 32)
    assert pixels.dtype == torch.uint8 and (pixels / 127.5 - 1 - expected).abs().max() <= 1 / 127.5


@pytest.mark.parametrize("name", ["procedural", "ict"])
def test_the_painter_draws_what_the_reference_draws(name, assets):
    """Of other people, too, whose sides overlap: the nearest triangle is seen, whichever way it turns."""
    if name == "ict" and not (assets / "ict_facekit.npz").is_file():
        pytest.skip(f"no ict_facekit.npz in {assets}")
    model, generator = load_face_model(name), torch.Generator().manual_seed(1)
    identity, expression = torch.randn(3, 80, generator=generator), 0.3 * torch.rand(3, 64, generator=generator)
    drawn = PNCCPainter(model).pixels(identity, expression, 200)
    expected = to_uint8(render_pncc(model, identity, expression, 200))
    difference = (drawn.int() - expected.int()).abs()
    assert expected.any(1).float().mean() > 0.2
    assert difference.max() <= 1 and (difference > 0).any(1).float().mean() < 2e-4


def test_one_identity_serves_all_faces(face):
    model = load_face_model("procedural")
    painter = pncc_painter(model)
    one = painter.pixels(face.identity, face.expression[:2], 48)
    assert torch.equal(one, painter.pixels(face.identity.expand(2, -1), face.expression[:2], 48))
    assert painter is pncc_painter(model)


def test_all_frames_come_in_order_and_the_neutral_face_last(face):
    model = load_face_model("procedural")
    stored = all_pncc(model, face, 32)
    assert stored.shape == (FRAMES_AT_ONCE + 2, 3, 32, 32)
    assert (stored == pncc_pixels(model, face, [*range(FRAMES_AT_ONCE + 1), -1], 32).numpy()).all()
