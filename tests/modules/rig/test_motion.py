"""The photo's own coefficients leave the photo; lids and lips shut; a head does not swell when its mouth opens."""

import torch
from torch.testing import assert_close

from modules.face3d.coefficients import FaceCoefficients, project
from modules.geometry.camera import CAMERA_DISTANCE
from modules.rig.landmark_mesh import LIDS_ABOVE, LIDS_BELOW, LOWER_LIP, UPPER_LIP, LandmarkModel
from modules.rig.motion import head_poses
from tests.modules.rig.conftest import BLINKS, JAW


def own(puppet, **changes):
    face = puppet.photo.face.replace(**changes)
    return puppet.rig.skeleton.pose(face.expression, face.euler, face.translation, torch.zeros(1))


def test_with_its_own_coefficients_every_vertex_is_where_the_photo_shows_it(puppet):
    pose = own(puppet)
    posed = torch.cat([pose.points[..., :2], CAMERA_DISTANCE - pose.points[..., 2:]], -1)
    assert_close(project(posed)[0], puppet.rig.attributes[:, :2], atol=2e-3, rtol=0)
    assert_close(pose.interior[0, :, :2], puppet.rig.attributes[-52:, :2], atol=2e-3, rtol=0)
    assert abs(float(pose.opened)) < 1e-4


def test_a_blink_shuts_the_lids_and_shut_lips_meet(puppet):
    expression = puppet.photo.face.expression.clone()
    expression[:, BLINKS] = 1
    points = own(puppet, expression=expression).points[0]
    open_points = own(puppet).points[0]
    upper, lower = list(LIDS_ABOVE), list(LIDS_BELOW)
    gap, before = (p[upper, 1] - p[lower, 1] for p in (points, open_points))
    assert gap.abs().max() < 0.35 * before.max()
    skeleton, face = puppet.rig.skeleton, puppet.photo.face
    shut = skeleton.pose(face.expression, face.euler, face.translation, torch.ones(1)).points[0]
    assert (shut[upper] - shut[lower]).abs().max() < 1e-4  # closing alone does so in any face model
    lips = points[list(UPPER_LIP), 1] - points[list(LOWER_LIP), 1]
    assert lips.min() > -1e-4


def test_lips_open_with_the_jaw_and_never_cross(puppet):
    for amount in (-1.0, 0.0, 0.5, 1.0):
        expression = puppet.photo.face.expression.clone()
        expression[:, JAW] = amount
        points = own(puppet, expression=expression).points[0]
        gap = points[list(UPPER_LIP), 1] - points[list(LOWER_LIP), 1]
        assert gap.min() > -1e-4
        assert (gap.max() > 0.1) == (amount > 0.2)


def test_shoulders_follow_less_than_the_head(puppet):
    face = puppet.photo.face
    moved = own(puppet, translation=face.translation + torch.tensor([[0.3, 0.0, 0.0]])).points - own(puppet).points
    weight = puppet.rig.skeleton.weight[:, 0]
    assert_close(moved[0, :478, 0], torch.full((478,), 0.3), atol=1e-4, rtol=0)
    assert 0.05 < float(moved[0, weight < 0.05, 0].mean()) < 0.25


def test_poses_start_as_the_photo_and_a_head_that_comes_nearer_for_a_moment_does_not_swell(generator):
    photo = FaceCoefficients.neutral().replace(translation=torch.tensor([[0.1, 0.2, -4.0]]))
    euler = 0.1 * torch.randn(200, 3, generator=generator)
    translation = torch.tensor([0.4, -0.1, -3.0]).repeat(200, 1)
    translation[80:90, 2] += 0.3  # the mouth opens
    angles, places = head_poses(photo, euler, translation)
    assert_close(angles[:1], photo.euler)
    assert_close(places[:1], photo.translation)
    assert_close(places[:, 2], torch.full((200,), -4.0))
    seen = (places[:, :2] - photo.translation[:, :2]) / 13 + torch.tensor([0.4, -0.1]) / 13
    assert_close(seen, translation[:, :2] / (CAMERA_DISTANCE - translation[:, 2:]), atol=1e-5, rtol=0)
    near = translation.clone()
    near[60:, 2] += 1  # and a step towards the camera is kept
    assert_close(head_poses(photo, euler, near)[1][-1, 2], torch.tensor(-3.0))


def test_the_models_landmarks_move_linearly(model):
    landmarks = LandmarkModel.of(model, torch.zeros(1, 80))
    expression = torch.eye(64)[:3]
    assert_close(landmarks.moved(expression), model.landmarks(torch.zeros(1, 80), expression, 478), atol=1e-5, rtol=0)
