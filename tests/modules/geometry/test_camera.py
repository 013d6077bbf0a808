"""Cameras: poses, samplers, preparation and smoothing of a clip."""

import math

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.coefficients import FOCAL_LENGTH, pose_points, project
from modules.geometry.camera import (
    WORLD_OFFSET,
    WORLD_SCALE,
    Camera,
    gaussian_cameras,
    look_at_camera,
    mirror_index,
    pose_camera,
    prepare_poses,
    smooth_cameras,
    smooth_features,
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
    camera = pose_camera(euler, translation, FOCAL_LENGTH)
    world = WORLD_SCALE * points + torch.tensor(WORLD_OFFSET)
    assert_close(seen(camera, world), project(pose_points(points, euler, translation)), atol=1e-5, rtol=1e-4)


def test_a_camera_survives_its_vector(generator):
    camera = gaussian_cameras(3, generator)
    again = Camera.from_vector(camera.vector())
    assert camera.vector().shape == (3, 25) and camera.size == len(camera[:3]) == 3
    assert torch.equal(again.camera_to_world, camera.camera_to_world)
    assert torch.equal(again.intrinsics, camera.intrinsics)


def test_sampled_cameras_look_at_their_target_from_their_radius(generator):
    target = (0.1, -0.2, 0.2)
    for camera in (gaussian_cameras(16, generator, look_at=target),
                   uniform_cameras(16, generator, look_at=target, radius=(2.7, 2.7))):
        assert_close(camera.camera_to_world[:, :3, 3].norm(dim=1), torch.full((16,), 2.7))
        middle = seen(camera, torch.tensor([[target]]).expand(16, 1, 3))
        assert_close(middle, torch.full((16, 1, 2), 0.5), atol=1e-5, rtol=0)
        rotation = camera.camera_to_world[:, :3, :3]
        assert_close(torch.linalg.det(rotation), torch.ones(16))


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
    with pytest.raises(ValueError, match="1.8"):
        gaussian_cameras(1, generator, yaw=1.8)


def test_a_short_clip_plays_forwards_and_backwards():
    assert mirror_index(torch.arange(-2, 8), 3).tolist() == [1, 0, 0, 1, 2, 2, 1, 0, 0, 1]


def test_mapped_poses_start_at_the_photo_and_keep_the_distance(generator):
    source = torch.randn(1, 3, generator=generator), torch.randn(1, 3, generator=generator)
    driving = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    before = driving[1].clone()
    euler, translation = prepare_poses(*source, *driving, 8)
    assert_close(euler[0], source[0][0])
    assert_close(translation[0], source[1][0])
    assert translation[:, 2].std() < 1e-6
    assert_close(euler[5], euler[4])
    assert torch.equal(driving[1], before)
    unmapped, _ = prepare_poses(*source, *driving, 8, map_to_source=False)
    assert_close(unmapped[:5], driving[0])


def turning(frames: int) -> Camera:
    angles = torch.zeros(frames, 3)
    angles[:, 1] = torch.linspace(-0.5, 0.5, frames)
    return pose_camera(angles, torch.zeros(frames, 3))


def test_smoothing_keeps_still_and_steadily_turning_cameras(generator):
    still = Camera(turning(1).camera_to_world.expand(9, 4, 4), turning(1).intrinsics.expand(9, 3, 3))
    assert_close(smooth_cameras(still).camera_to_world, still.camera_to_world)
    steady = turning(15)
    rotation = smooth_cameras(steady).camera_to_world[3:-3, :3, :3]
    assert_close(rotation, steady.camera_to_world[3:-3, :3, :3], atol=1e-5, rtol=0)


def test_smoothed_rotations_are_rotations_and_calmer(generator):
    shaky = pose_camera(0.2 * torch.randn(30, 3, generator=generator), torch.zeros(30, 3))
    smooth = smooth_cameras(shaky).camera_to_world[:, :3, :3]
    assert_close(smooth @ smooth.mT, torch.eye(3).expand(30, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(smooth), torch.ones(30))
    assert smooth.diff(dim=0).norm() < 0.4 * shaky.camera_to_world[:, :3, :3].diff(dim=0).norm()


def test_a_broken_frame_takes_the_result_before_it():
    camera = turning(20)
    camera.camera_to_world[12, 0, 0] = torch.nan
    smooth = smooth_cameras(camera, 3).camera_to_world
    assert smooth.isfinite().all()
    assert_close(smooth[11], smooth[10])
    assert_close(smooth[13], smooth[10])


@pytest.mark.parametrize("shape", [(11, 4), (2, 4), (9, 2, 3, 3)])
def test_box_filters_keep_the_shape_and_constants(shape, generator):
    assert_close(smooth_features(torch.ones(shape), 7), torch.ones(shape))
    x = torch.randn(shape, generator=generator)
    assert smooth_features(x, 7).shape == x.shape
    assert_close(smooth_features(x, 7).mean(dim=0), x.mean(dim=0), atol=0.6, rtol=0)
    assert smooth_features(x, 7).std() < x.std()


def test_an_even_window_of_features_is_refused():
    with pytest.raises(ValueError, match="4"):
        smooth_features(torch.zeros(9, 1), 4)
