import pytest
import torch

from modules.audio.keypoints import Keypoints
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.metrics.motion import correlation, landmark_error, mouth_correlation, mouth_opening
from modules.procedural.clips import named_expression
from modules.procedural.head import procedural_model


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_correlation_of_real_frames_only(generator):
    a, mask = torch.randn(2, 12, generator=generator), torch.ones(2, 12)
    mask[1, 7:] = 0
    b = 3 * a + 1
    b[1, 7:] = 100
    assert correlation(a, b, mask) == pytest.approx(1.0, abs=1e-5)
    assert correlation(a, -a, mask) == pytest.approx(-1.0, abs=1e-5)


def test_a_mouth_that_follows_correlates_and_one_that_does_the_opposite_does_not():
    jaw = torch.tensor([0.0, 0.4, 0.8, 0.3, 0.1])
    points = Keypoints(procedural_model(), "lm468")
    still, follows, opposite = (
        points(torch.zeros(1, 80), named_expression(5, jaw_open=values)[None])
        for values in (torch.full((5,), 0.3), jaw / 2, 1 - jaw)
    )
    target = points(torch.zeros(1, 80), named_expression(5, jaw_open=jaw)[None])
    mask = torch.ones(1, 5)
    assert mouth_correlation(follows, target, mask) == pytest.approx(1.0, abs=1e-4)
    assert mouth_correlation(opposite, target, mask) == pytest.approx(-1.0, abs=1e-4)
    assert abs(float(mouth_correlation(still, target, mask))) < 0.1


def test_an_opening_grows_with_the_jaw_and_not_with_the_picture():
    model = procedural_model()
    points = model.landmarks(torch.zeros(1, 80), named_expression(3, jaw_open=torch.tensor([0.0, 0.5, 1.0])), 478)
    opening = mouth_opening(points[..., :2])
    assert opening[0] < 0.05 and 0.1 < opening[1] < opening[2] < 1
    torch.testing.assert_close(mouth_opening(7 * points[..., :2]), opening)
    assert torch.isnan(mouth_opening(torch.full((478, 2), torch.nan)))


def test_a_fit_that_is_shifted_by_an_eye_distance_has_the_error_1():
    model, face = procedural_model(), FaceCoefficients.neutral(2)
    points = model.landmarks(face.identity, face.expression, 478)
    seen = project(pose_points(points, face.euler, face.translation))
    assert landmark_error(model, face, seen).tolist() == [0.0, 0.0]
    width = (seen[:, 263] - seen[:, 33]).norm(dim=-1)
    shifted = seen + torch.stack([width, torch.zeros(2)], dim=-1)[:, None]
    torch.testing.assert_close(landmark_error(model, face, shifted), torch.ones(2))
