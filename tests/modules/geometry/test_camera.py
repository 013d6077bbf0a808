"""Cameras: poses and samplers."""

import math

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.coefficients import pose_points, project
from modules.geometry.camera import (
    FITTING_FOCAL_LENGTH,
    WORLD_OFFSET,
    WORLD_SCALE,
    Camera,
    look_at_camera,
    pose_camera,
    uniform_cameras,
)


def seen(camera: Camera, world: torch.Tensor) -> torch.Tensor:
    """World points [B, N, 3] -> picture fractions [B, N, 2]."""
    to_camera = torch.linalg.inv(camera.camera_to_world)
    points = world @ to_camera[:, :3, :3].mT + to_camera[:, None, :3, 3]
    image = points @ camera.intrinsics.mT
    return image[..., :2] / image[..., 2:]


def test_the_posed_head_and_the_moved_camera_give_the_same_picture(generator):
    points = torch.randn(4, 20, 3, generator=generator)
    euler, translation = 0.3 * torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    camera = pose_camera(euler, translation, FITTING_FOCAL_LENGTH)
    world = WORLD_SCALE * points + torch.tensor(WORLD_OFFSET)
    assert_close(seen(camera, world), project(pose_points(points, euler, translation)), atol=1e-5, rtol=1e-4)


def test_a_camera_survives_its_vector(generator):
    camera = uniform_cameras(3, generator)
    again = Camera.from_vector(camera.vector())
    assert camera.vector().shape == (3, 25) and camera.size == len(camera[:3]) == 3
    assert torch.equal(again.camera_to_world, camera.camera_to_world)
    assert torch.equal(again.intrinsics, camera.intrinsics)


def test_sampled_cameras_look_at_their_target_from_their_radius(generator):
    target = (0.1, -0.2, 0.2)
    camera = uniform_cameras(16, generator, look_at=target, radius=(2.7, 2.7))
    assert_close(camera.camera_to_world[:, :3, 3].norm(dim=1), torch.full((16,), 2.7))
    middle = seen(camera, torch.tensor([[target]]).expand(16, 1, 3))
    assert_close(middle, torch.full((16, 1, 2), 0.5), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(camera.camera_to_world[:, :3, :3]), torch.ones(16))


def test_positive_pitch_is_below_and_positive_yaw_to_the_right():
    origin = look_at_camera(torch.tensor([0.2, 0.0]), torch.tensor([0.0, 0.2])).camera_to_world[:, :3, 3]
    assert origin[0, 0] > 0.3 and origin[1, 1] < -0.2
    assert_close(origin[1, 1] / 2.7, torch.tensor(-2 * 0.2 / math.pi))


def test_the_same_seed_gives_the_same_cameras_within_their_limits():
    draws = [uniform_cameras(200, torch.Generator().manual_seed(3)).camera_to_world for _ in range(2)]
    assert torch.equal(*draws)
    radius = draws[0][:, :3, 3].norm(dim=1)
    assert radius.min() >= 2.7 - 1e-4 and radius.max() <= 4 + 1e-4 and radius.std() > 0.2


def test_angles_behind_the_head_are_refused(generator):
    with pytest.raises(ValueError, match="yaw 1.8"):
        uniform_cameras(1, generator, yaw=1.8)
