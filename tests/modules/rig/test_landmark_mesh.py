"""The mesh of the landmarks lies on the photo; any face model gives one."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from modules.face3d.coefficients import project
from modules.face3d.morphable_model import MorphableModel
from modules.rig.landmark_mesh import (
    LEFT_EYE_RING,
    LIDS_ABOVE,
    LIDS_BELOW,
    LOWER_LIP,
    MOUTH_RING,
    RIGHT_EYE_RING,
    UPPER_LIP,
    LandmarkModel,
    face_triangles,
    oriented,
    photo_mesh,
    ring_triangles,
    unproject,
)

RINGS = (MOUTH_RING, RIGHT_EYE_RING, LEFT_EYE_RING)


def edges(triangles) -> set[frozenset[int]]:
    return {frozenset(pair) for a, b, c in triangles for pair in ((a, b), (b, c), (c, a))}


def test_face_and_holes_together_are_one_disc_without_gaps():
    holes = [corners for ring in RINGS for corners in ring_triangles(ring)]
    triangles = [*map(tuple, face_triangles().tolist()), *holes]
    corners = {corner for triangle in triangles for corner in triangle}
    assert len(corners) == 468
    assert len(corners) - len(edges(triangles)) + len(triangles) == 1  # Euler's number of a disc
    for ring in RINGS:
        rim = {frozenset(pair) for pair in zip(ring, ring[1:] + ring[:1])}
        assert rim <= edges(face_triangles().tolist()) and rim <= edges(ring_triangles(ring))


def test_upper_and_lower_edges_are_pairs_one_above_the_other(model):
    shape = model.landmark_basis(478)[0]
    for upper, lower in ((LIDS_ABOVE, LIDS_BELOW), (UPPER_LIP, LOWER_LIP)):
        above, below = shape[list(upper)], shape[list(lower)]
        assert (above[:, 1] >= below[:, 1]).all() and ((above - below)[:, 0].abs() < 0.05).all()


def test_points_of_the_photo_project_to_its_landmarks(model, puppet, generator):
    landmarks = torch.from_numpy(puppet.photo.landmarks) + 0.004 * torch.randn(478, 2, generator=generator)
    face = puppet.photo.face
    mesh = photo_mesh(landmarks.float(), LandmarkModel.of(model, face.identity), face)
    frontal = mesh.facing > 0.5
    assert frontal.sum() > 300
    assert_close(project(mesh.points)[frontal], landmarks.float()[frontal], atol=1e-5, rtol=0)
    places, depth = torch.rand(7, 2, generator=generator), 5 + torch.rand(7, generator=generator)
    assert_close(project(unproject(places, depth)), places)


def test_twins_are_mutual_and_orientation_is_outwards(model):
    landmarks = LandmarkModel.of(model, torch.zeros(1, 80))
    assert torch.equal(landmarks.twin[landmarks.twin], torch.arange(478))
    triangles = oriented(face_triangles(), landmarks.shape)
    a, b, c = landmarks.shape[triangles].unbind(1)
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).float().mean() > 0.9


def test_a_model_without_irises_and_some_landmarks_serves_as_well(model):
    class Poorer(MorphableModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.counts = (68, 468)

        def landmark_basis(self, count=68):
            return tuple(table[:count] for table in model.landmark_basis(478))

        def embedding(self, count):
            found = model.embedding(478)
            valid = found.valid[:468].clone()
            valid[[10, 151, 4]] = False
            return replace(found, vertices=found.vertices[:468], weights=found.weights[:468], valid=valid)

    whole, poor = (LandmarkModel.of(source, torch.zeros(1, 80)) for source in (model, Poorer()))
    assert_close(poor.shape, whole.shape, atol=0.12, rtol=0)  # dm: neighbours and middles of the eyes are near
    assert poor.basis.shape == whole.basis.shape
