import torch
from torch.testing import assert_close

from modules.geometry.rotation import euler_angles, rotation_matrix


def test_rotations_are_orthogonal_and_give_their_angles_back(generator):
    euler = 0.6 * torch.randn(50, 3, generator=generator).clamp(-2, 2)
    rotation = rotation_matrix(euler)
    assert_close(rotation @ rotation.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotation), torch.ones(50))
    assert_close(euler_angles(rotation), euler, atol=1e-4, rtol=0)
