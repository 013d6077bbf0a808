"""Normals of a mesh whose answers are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.shading import vertex_normals

CORNER = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])  # three faces meet at the origin
FACES = torch.tensor([[0, 2, 1], [0, 3, 2], [0, 1, 3]])  # outside is where x, y, z are negative


def test_normals_point_outwards_and_weigh_triangles_by_area_or_equally():
    area, equal = (vertex_normals(CORNER, FACES, weighting)[0] for weighting in ("area", "equal"))
    assert_close(area, torch.tensor([-1.0, -2, -2]) / 3)  # areas 1/2, 1, 1
    assert_close(equal, torch.full((3,), -1 / math.sqrt(3)))


def test_normals_of_a_batch_are_those_of_its_meshes():
    meshes = torch.stack([CORNER, 3 * CORNER.flip(-1)])
    assert_close(vertex_normals(meshes, FACES), torch.stack([vertex_normals(mesh, FACES) for mesh in meshes]))


def test_a_vertex_without_triangles_has_no_normal_and_another_weighting_is_refused():
    assert (vertex_normals(CORNER, FACES[:1])[3] == 0).all()
    with pytest.raises(ValueError, match="angle"):
        vertex_normals(CORNER, FACES, "angle")
