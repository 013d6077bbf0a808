"""The demo's portrait before any training: the photo, posed, with a mouth that opens."""

import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients
from modules.layers.resample import resize
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import Driving, PNCCInputs, head_camera
from modules.portrait.photo import Photo
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person
from modules.procedural.render import render
from tests.modules.portrait.demo.test_head_prior import mouths

__all__ = ["mouths"]  # the fixture


@pytest.fixture(scope="module")
def photo():
    person = sample_person(900_007)
    face = FaceCoefficients(
        person.identity[None], torch.zeros(1, 64), torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -5.0]])
    )
    head = render(procedural_model(), person, face, 256, parts="head").image
    return Photo(head, head_camera(face.euler, face.translation, Real3DPortraitConfig.demo().driving))


def untrained(stage):
    """The demo model whose networks add nothing to the prior."""
    model = build_portrait(Real3DPortraitConfig.demo(stage)).eval()
    outputs = [model.image_to_plane.triplane_predictor_vit.final_conv]
    outputs += [] if stage == 1 else [model.motion_adapter.to_plane_cnn[-1]]
    for layer in outputs:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return model


@pytest.mark.parametrize("stage", [1, 2])
def test_a_head_looks_like_its_photo(photo, stage):
    model = untrained(stage)
    with torch.no_grad():
        planes = model.canonical_planes(photo)
        output = model.render(planes, Driving(photo.camera))
    error = (output.feature[:, :3].clamp(-1, 1) - resize(photo.head, model.neural_resolution)).square().mean()
    assert -10 * torch.log10(error / 4) > 24
    middle = output.weights[0, 0, 36:60, 36:60]
    assert planes.dtype == torch.float32 and middle.min() > 0.95 and output.weights[0, 0, 2, 2] < 0.05


def test_the_mouth_opens(photo, mouths):
    model = untrained(2)
    with torch.no_grad():
        planes = model.canonical_planes(photo)
        driven = [model.drive(planes, PNCCInputs(mouths[0], mouths[0], driving))[0] for driving in mouths]
        closed, opened, still = (
            model.render(p, Driving(photo.camera)).feature[0, :3].clamp(-1, 1) for p in (*driven, planes)
        )
    assert (closed - still).abs().max() < 1e-3  # the source drives itself
    darker = (closed - opened).mean(dim=0)
    row, column = divmod(int(darker.argmax()), darker.shape[1])
    assert darker.max() > 0.5 and 48 < row < 72 and 40 < column < 56  # below the middle of the picture
