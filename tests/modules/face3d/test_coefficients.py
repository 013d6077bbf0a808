"""Poses, projection, and the value that holds the coefficients of a clip."""

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.coefficients import FaceCoefficients, camera_points, pose_points, project, unpose_points
from modules.system.errors import UserError


def turned(axis: int, point: tuple[float, float, float]) -> torch.Tensor:
    euler = torch.zeros(1, 3)
    euler[0, axis] = 0.3
    return pose_points(torch.tensor([[point]]), euler, torch.zeros(1, 3))[0, 0]


def test_positive_yaw_turns_the_nose_right_pitch_down_and_roll_counter_clockwise():
    assert turned(1, (0.0, 0, 1))[0] > 0.2
    assert turned(0, (0.0, 0, 1))[1] < -0.2
    assert turned(2, (1.0, 0, 0))[1] > 0.2


def test_the_origin_is_in_the_middle_and_up_is_up_in_the_picture():
    points = project(torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]]))[0]
    assert_close(points[0], torch.tensor([0.5, 0.5]))
    assert points[1, 0] > 0.5 and points[2, 1] < 0.5


def test_a_nearer_face_is_larger_in_inverse_proportion_to_its_depth():
    points = torch.tensor([[[0.5, 0, 0]], [[0.5, 0, -10]]])
    offsets = project(points)[:, 0, 0] - 0.5
    assert_close(offsets[0], 2 * offsets[1])
    assert camera_points(points)[1, 0, 2] == 20


def test_coefficients_survive_a_file(tmp_path, generator):
    face = FaceCoefficients(torch.randn(1, 80), *(torch.randn(4, n, generator=generator) for n in (64, 3, 3)))
    face.save(tmp_path / "face.npz")
    loaded = FaceCoefficients.load(tmp_path / "face.npz")
    for name in ("identity", "expression", "euler", "translation"):
        assert torch.equal(getattr(loaded, name), getattr(face, name))


def test_a_wrong_file_is_refused_by_name(tmp_path):
    (tmp_path / "not.npz").write_text("hello")
    with pytest.raises(UserError, match="not.npz"):
        FaceCoefficients.load(tmp_path / "not.npz")


def test_slices_keep_the_shared_identity():
    face = FaceCoefficients.neutral(5)
    assert len(face[1:3]) == 2 and len(face[-1]) == 1 and len(face[0]) == 1
    assert face[1:3].identity.shape == (1, 80)


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="3 rows"):
        FaceCoefficients(torch.zeros(3, 80), torch.zeros(4, 64), torch.zeros(4, 3), torch.zeros(4, 3))


def test_coefficients_that_are_being_fitted_can_be_saved(tmp_path):
    face = FaceCoefficients.neutral(2)
    fitted = face.replace(expression=face.expression.requires_grad_() + 1)
    fitted.save(tmp_path / "face.npz")
    assert torch.equal(FaceCoefficients.load(tmp_path / "face.npz").expression, torch.ones(2, 64))


def test_points_of_a_pose_are_taken_back(generator: torch.Generator) -> None:
    points, euler = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 3, generator=generator)
    translation = torch.randn(2, 3, generator=generator)
    assert_close(unpose_points(pose_points(points, euler, translation), euler, translation), points, atol=1e-5, rtol=0)
