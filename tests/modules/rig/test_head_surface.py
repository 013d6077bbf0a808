"""The triangles that go with the head: the face's, and those of the hair around it."""

import numpy as np
import torch

from modules.analysis.segmentation_classes import CLOTHES
from modules.face3d.coefficients import pose_points, project
from modules.geometry.camera import CAMERA_DISTANCE
from modules.rig.head_surface import HeadSurface, crossed

from .conftest import Puppet


def posed(surface: HeadSurface, puppet: Puppet) -> np.ndarray:
    """Vertices [V, 3] as the photo has them."""
    face = puppet.photo.face
    return pose_points(torch.from_numpy(surface.canonical).float()[None], face.euler, face.translation)[0].numpy()


def test_without_classes_there_is_the_face_alone(puppet: Puppet) -> None:
    surface = HeadSurface.of(puppet.model, puppet.photo.face)
    assert surface.canonical.shape == (478, 3) and len(surface.corners) == surface.of_face == 852
    assert np.isclose(surface.share.mean(), 1)


def test_hair_is_where_the_picture_shows_it(puppet: Puppet) -> None:
    """Around the face, on the person, and not on clothes, which do not go with the head."""
    surface = HeadSurface.of(puppet.model, puppet.photo.face, puppet.photo.classes)
    around = surface.corners[surface.of_face :]
    assert len(around) > 200 and around.min() >= 478
    places = project(torch.from_numpy(posed(surface, puppet)[around].mean(1))[None])[0].numpy()
    size = len(puppet.photo.classes)
    shown = puppet.photo.classes[tuple((places * size).astype(int).clip(0, size - 1).T[::-1])]
    assert (shown > 0).mean() > 0.98 and (shown == CLOTHES).mean() < 0.02


def test_normals_point_out_of_the_head(puppet: Puppet) -> None:
    surface = HeadSurface.of(puppet.model, puppet.photo.face, puppet.photo.classes)
    corners = posed(surface, puppet)[surface.corners]
    rays = np.array([0, 0, CAMERA_DISTANCE]) - corners.mean(1)
    towards = (surface.outwards[:, None] * crossed(corners) * rays).sum(1) > 0
    assert np.average(towards, weights=np.linalg.norm(crossed(corners), axis=1)) > 0.9


def test_face_and_hair_move_with_the_expression(puppet: Puppet) -> None:
    """The landmarks as the model says, hair far from the face not at all."""
    surface = HeadSurface.of(puppet.model, puppet.photo.face, puppet.photo.classes)
    assert np.allclose(surface.basis[:478], puppet.rig.skeleton.model.basis.numpy(), atol=1e-6)
    top = surface.canonical[:, 1].argmax()
    assert np.abs(surface.basis[top]).max() < 0.2 * np.abs(surface.basis[:478]).max()
