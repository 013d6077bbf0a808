"""Lips that meet show their red, not the teeth that the photo shows between them."""

import torch
from torch.testing import assert_close

from modules.face3d.coefficients import FaceCoefficients
from modules.rig.lips import LIP_EDGES
from modules.rig.rig import PhotoRig
from tests.modules.rig.conftest import JAW, Puppet, photograph


def laughing(model, neutral_face: FaceCoefficients) -> Puppet:
    """The person photographed with an open mouth."""
    expression = torch.zeros(1, 64)
    expression[:, JAW] = 0.6
    photo = photograph(model, neutral_face.replace(expression=expression))
    return Puppet(photo, PhotoRig(photo, model), model)


def test_edges_go_towards_the_red_when_an_open_mouth_closes_and_stay_otherwise(model, neutral_face):
    puppet = laughing(model, neutral_face)
    skeleton, face, lips = puppet.rig.skeleton, puppet.photo.face, puppet.rig.lips

    def sealed(jaw: float) -> torch.Tensor:
        expression = face.expression.clone()
        expression[:, JAW] = jaw
        return skeleton.pose(expression, face.euler, face.translation, torch.zeros(1)).sealed

    assert_close(sealed(0.6), torch.zeros(1, 9), atol=1e-6, rtol=0)
    assert_close(sealed(0.9), torch.zeros(1, 9), atol=1e-6, rtol=0)
    assert (sealed(0.0)[0, 2:7] > 0.8).all()
    places = puppet.rig.attributes[list(LIP_EDGES), 1]
    change = lips.moved(torch.ones(1, 9))[0, :, 1]
    assert (change[2:7] < 0).all() and (change[11:16] > 0).all() and places.shape == change.shape  # y grows downwards


def test_a_shut_mouth_of_the_photo_changes_nothing(puppet):
    face = puppet.photo.face
    pose = puppet.rig.skeleton.pose(face.expression, face.euler, face.translation, torch.zeros(1))
    assert float(pose.sealed.max()) < 0.05
