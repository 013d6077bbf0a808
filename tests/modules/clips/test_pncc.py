import pytest
import torch

from modules.clips.pncc import FRAMES_AT_ONCE, all_pncc, pncc_pixels
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.pncc import render_pncc
from modules.face_models import load_face_model


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


def test_all_frames_come_in_order_and_the_neutral_face_last(face):
    model = load_face_model("procedural")
    stored = all_pncc(model, face, 32)
    assert stored.shape == (FRAMES_AT_ONCE + 2, 3, 32, 32)
    assert (stored == pncc_pixels(model, face, [*range(FRAMES_AT_ONCE + 1), -1], 32).numpy()).all()
