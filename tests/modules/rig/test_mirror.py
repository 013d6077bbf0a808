import math

import numpy as np
import torch

from modules.rig.config import REFERENCE
from modules.rig.landmark_mesh import LandmarkModel, photo_mesh
from modules.rig.mirror import mirror
from tests.modules.rig.conftest import photograph

NO_HAIR = np.zeros((REFERENCE, REFERENCE), bool)


def turned(model, face, yaw):
    face = face.replace(euler=torch.tensor([[0.0, math.radians(yaw), 0.0]]))
    photo = photograph(model, face)
    landmarks = LandmarkModel.of(model, face.identity)
    return landmarks, photo_mesh(torch.from_numpy(photo.landmarks).float(), landmarks, face)


def test_a_frontal_face_uses_its_own_texture_and_a_turned_one_mirrors_its_far_side(model, neutral_face):
    white = np.full((REFERENCE, REFERENCE, 3), 200.0)
    landmarks, mesh = turned(model, neutral_face, 0)
    assert mirror(white, NO_HAIR, mesh, landmarks)[0].min() > 0.9
    landmarks, mesh = turned(model, neutral_face, 45)  # the nose to the right: the right side of the picture is far
    seen, gain = mirror(white, NO_HAIR, mesh, landmarks)
    far = landmarks.shape[:, 0] > 0.3
    near = landmarks.shape[:, 0] < -0.3
    assert seen[near].min() > 0.9 and seen[far].min() < 0.1
    assert torch.allclose(gain, torch.ones_like(gain), atol=1e-3)
    hairy = mirror(white, ~NO_HAIR, mesh, landmarks)[0]
    assert hairy.min() > 0.99  # hair is no cheek


def test_the_gain_is_that_of_the_light(model, neutral_face):
    landmarks, mesh = turned(model, neutral_face, 0)
    lit = np.full((REFERENCE, REFERENCE, 3), 200.0)
    lit[:, REFERENCE // 2 :] = 100.0
    _, gain = mirror(lit, NO_HAIR, mesh, landmarks)
    left, right = landmarks.shape[:468, 0] < -0.35, landmarks.shape[:468, 0] > 0.35
    assert gain[:468][left].mean() > 1.5 and gain[:468][right].mean() < 0.7
