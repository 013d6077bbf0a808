"""Normals, textures and light on a mesh whose answers are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.shading import AMBIENT, harmonic_light, vertex_normals, vertex_texture

CORNER = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])       # three faces meet at the origin
FACES = torch.tensor([[0, 2, 1], [0, 3, 2], [0, 1, 3]])                     # outside is where x, y, z are negative


def test_normals_point_outwards_and_weigh_triangles_by_area_or_equally():
    area, equal = (vertex_normals(CORNER, FACES, weighting)[0] for weighting in ("area", "equal"))
    assert_close(area, torch.tensor([-1.0, -2, -2]) / 3)                    # areas 1/2, 1, 1
    assert_close(equal, torch.full((3,), -1 / math.sqrt(3)))


def test_normals_of_a_batch_are_those_of_its_meshes():
    meshes = torch.stack([CORNER, 3 * CORNER.flip(-1)])
    assert_close(vertex_normals(meshes, FACES), torch.stack([vertex_normals(mesh, FACES) for mesh in meshes]))


def test_a_vertex_without_triangles_has_no_normal_and_another_weighting_is_refused():
    assert (vertex_normals(CORNER, FACES[:1])[3] == 0).all()
    with pytest.raises(ValueError, match="angle"):
        vertex_normals(CORNER, FACES, "angle")


def test_the_texture_is_linear_in_its_coefficients(generator):
    mean, basis = torch.full((5, 3), 51.0), torch.randn(5, 3, 4, generator=generator)
    one = torch.eye(4)[2:3]
    assert_close(vertex_texture(mean, basis, torch.zeros(1, 4)), torch.full((1, 5, 3), 0.2))
    assert_close(vertex_texture(mean, basis, one) - 0.2, basis[None, :, :, 2] / 255)


def test_light_of_no_direction_is_the_same_on_every_side(generator):
    normals = torch.nn.functional.normalize(torch.randn(1, 50, 3, generator=generator), dim=-1)
    assert_close(harmonic_light(normals, torch.zeros(1, 27)), torch.full((1, 50, 3), AMBIENT * math.sqrt(math.pi) / 2))


def test_a_linear_harmonic_lights_one_side_in_one_colour():
    gamma = torch.zeros(1, 27)
    gamma[0, 9 + 2] = 0.5                                                   # green, along z
    front, side, back = harmonic_light(torch.tensor([[[0.0, 0, 1], [1, 0, 0], [0, 0, -1]]]), gamma)[0]
    assert front[1] > side[1] > back[1] and front[0] == back[0] and front[2] == back[2]
    with pytest.raises(ValueError, match="26"):
        harmonic_light(torch.zeros(1, 1, 3), torch.zeros(1, 26))
