"""Views of a portrait in space; the pictures are those that a motion gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.views import turned_motion
from modules.system.errors import UserError


def test_a_view_is_the_frame_of_that_pose_with_depth_where_the_head_is(pipeline, portrait):
    view = pipeline.view(portrait, yaw=20.0, pitch=5.0)
    motion = turned_motion(portrait, torch.tensor([20.0]), torch.tensor([5.0]))
    assert np.array_equal(view.picture, next(pipeline.frames(portrait, motion)))
    assert view.picture.shape == (64, 64, 3) and view.depth.shape == view.alpha.shape == (64, 64)
    assert np.array_equal(view.mask, np.isfinite(view.depth))
    assert 0 <= view.alpha.min() and view.alpha.max() <= 1
    assert not np.array_equal(view.picture, pipeline.view(portrait).picture)
    smile = pipeline.view(portrait, 20.0, 5.0, expression=torch.ones(64)).picture
    assert not np.array_equal(view.picture, smile)


def test_a_view_is_not_smoothed_and_a_part_of_a_relative_motion_stays_where_it_was(pipeline, portrait):
    motion = turned_motion(portrait, torch.tensor([0.0, 30.0]), torch.zeros(2))
    turned = list(pipeline.frames(portrait, motion))[1]
    assert np.array_equal(turned, pipeline.view(portrait, 30.0).picture)
    assert np.array_equal(next(pipeline.frames(portrait, motion[1:])), turned)
    with pytest.raises(UserError, match="cannot be used as absolute"):
        next(pipeline.frames(portrait, motion, pose_mode="absolute"))


def test_a_turntable_comes_back_to_where_it_began(pipeline, portrait):
    views = list(pipeline.turntable(portrait, yaw=30.0, pitch=0.0, frames=4))
    assert len(views) == 4 and not np.array_equal(views[1].picture, views[3].picture)
    assert np.abs(views[0].picture.astype(int) - views[2].picture).max() <= 1
    assert torch.equal(views[1].camera.camera_to_world, pipeline.view(portrait, 30.0).camera.camera_to_world)


def test_the_planes_are_those_that_are_rendered(pipeline, portrait):
    planes = pipeline.planes(portrait)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    features = planes.features_at(points)
    assert features.shape == (2, pipeline.config.image_to_plane.plane_channels) and planes.planes.ndim == 4
    assert planes.density_at(points).shape == (2,) and float(planes.density_at(points).min()) >= 0
    colours = planes.colours_at(points)
    assert colours.shape == (2, 3) and 0 <= float(colours.min()) and float(colours.max()) <= 1
    lifted = replace(planes, planes=planes.planes + 1)
    assert torch.allclose(lifted.features_at(points), features + 1, atol=1e-4)


def test_an_expression_of_another_size_is_refused(pipeline, portrait):
    with pytest.raises(UserError, match="expression has shape"):
        pipeline.view(portrait, expression=torch.zeros(52))


@pytest.mark.parametrize("angles", [{"yaw": 170.0}, {"yaw": -90.5}, {"pitch": 91.0}, {"yaw": float("nan")}])
def test_the_other_side_of_a_head_is_refused(pipeline, portrait, angles):
    ((name, value),) = angles.items()
    with pytest.raises(
        UserError, match=f"{name} is {value:g} degrees; give -90 to 90: a photo shows nothing of the ot"
    ):
        pipeline.view(portrait, **angles)
    with pytest.raises(UserError, match="yaw is 120 degrees"):
        list(pipeline.turntable(portrait, yaw=120.0, frames=4))
    assert turned_motion(portrait, torch.tensor([-90.0, 90.0]), torch.zeros(2)).relative


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
@pytest.mark.parametrize("what", ["features_at", "density_at", "colours_at"])
def test_points_of_another_shape_are_refused(pipeline, portrait, shape, what):
    with pytest.raises(UserError, match=r"points have shape \[.*; they must be \[N, 3\], such as points.reshape"):
        getattr(pipeline.planes(portrait), what)(torch.zeros(shape))
