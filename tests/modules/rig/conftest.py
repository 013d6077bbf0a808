"""A procedural person's photo and its rig; small, as all of these tests ask for properties and not for beauty."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.media.pixels import to_pixels
from modules.procedural.head import ProceduralModel, procedural_model
from modules.procedural.person import sample_person
from modules.procedural.render import render
from modules.rig.draw import RigFrames, draw
from modules.rig.rig import PhotoRig, RigPhoto

SEED = 900_007
SIZE = 256
JAW, BLINKS = 0, [4, 5]  # modes of the procedural model (modules/procedural/expression_modes.py)


def photograph(model: ProceduralModel, face: FaceCoefficients) -> RigPhoto:
    """The procedural person as a photo, with exact landmarks, classes and fit."""
    view = render(model, sample_person(SEED), face, SIZE)
    points = model.landmarks(face.identity, face.expression, 478)
    landmarks = project(pose_points(points, face.euler, face.translation))[0].numpy()
    return RigPhoto(to_pixels(view.image)[0], view.classes[0].numpy(), None, landmarks, face)


@dataclass(frozen=True)
class Puppet:
    """A rig with its photo and face model."""

    photo: RigPhoto
    rig: PhotoRig
    model: ProceduralModel

    def draw(self, size: int = SIZE, closing: float = 0.0, **changes: Tensor) -> RigFrames:
        """Frames with the photo's own coefficients but for `changes` of FaceCoefficients."""
        count = max([1, *(len(value) for value in changes.values())])
        face = self.photo.face
        rows = {name: getattr(face, name).expand(count, -1) for name in ("expression", "euler", "translation")}
        rows |= changes
        return draw(self.rig, *rows.values(), torch.full((count,), closing), size)

    def turned(self, yaw: float, size: int = SIZE) -> RigFrames:
        """The head turned by `yaw` degrees from the photo's pose."""
        return self.draw(size, euler=self.photo.face.euler + torch.tensor([[0.0, math.radians(yaw), 0.0]]))


@pytest.fixture(scope="session")
def model() -> ProceduralModel:
    return procedural_model()


@pytest.fixture(scope="session")
def neutral_face() -> FaceCoefficients:
    return FaceCoefficients.neutral().replace(
        identity=sample_person(SEED).identity[None], translation=torch.tensor([[0.0, 0.0, -5.0]])
    )


@pytest.fixture(scope="session")
def puppet(model: ProceduralModel, neutral_face: FaceCoefficients) -> Puppet:
    photo = photograph(model, neutral_face)
    return Puppet(photo, PhotoRig(photo, model), model)
