"""Poses and cameras along a clip."""

import pytest
import torch
from torch.testing import assert_close

from modules.geometry.camera import Camera, pose_camera
from modules.geometry.trajectory import mirror_index, prepare_poses, smooth_cameras, smooth_features


def test_a_short_clip_is_played_back_and_forth():
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
