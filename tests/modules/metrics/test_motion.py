from dataclasses import replace

import pytest
import torch

from modules.audio.keypoints import Keypoints
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.metrics.motion import (
    aed,
    akd,
    apd,
    correlation,
    landmark_error,
    landmark_errors,
    mediapipe_68,
    mouth_correlation,
    temporal_jitter,
)
from modules.procedural.clips import named_expression
from modules.procedural.head import procedural_model
from tests.metric_clips import series_of


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


def test_a_fit_that_is_shifted_by_an_eye_distance_has_the_error_1():
    model, face = procedural_model(), FaceCoefficients.neutral(2)
    points = model.landmarks(face.identity, face.expression, 478)
    seen = project(pose_points(points, face.euler, face.translation))
    assert landmark_error(model, face, seen).tolist() == [0.0, 0.0]
    width = (seen[:, 263] - seen[:, 33]).norm(dim=-1)
    shifted = seen + torch.stack([width, torch.zeros(2)], dim=-1)[:, None]
    torch.testing.assert_close(landmark_error(model, face, shifted), torch.ones(2))


def test_aed_and_apd_are_the_differences_that_were_put_in():
    truth = series_of(frames=10)
    made = replace(truth, expression=truth.expression + 0.1, euler=truth.euler - 0.02)
    assert aed(made, truth) == pytest.approx(0.1, abs=1e-6) and aed(truth, truth) == 0
    assert aed(made, truth, total=True) == pytest.approx(6.4, abs=1e-4)
    assert apd(made, truth) == pytest.approx(0.01, abs=1e-6)  # three of six numbers
    assert apd(made, truth, translation=False) == pytest.approx(0.02, abs=1e-6)
    assert apd(made, truth, total=True) == pytest.approx(0.06, abs=1e-6)


def test_frames_without_a_face_in_either_video_do_not_count():
    truth = series_of(frames=10)
    missing = truth.expression.clone()
    missing[3] = torch.nan
    far = truth.expression.clone()
    far[3] += 100
    assert aed(replace(truth, expression=far), replace(truth, expression=missing)) == 0
    with pytest.raises(ValueError, match="10 frames against 9"):
        aed(truth, truth[:9])


def test_akd_is_in_pixels_of_a_256_picture_and_a_mean_over_both_axes():
    points = mediapipe_68(series_of(frames=4, size=512).landmarks)
    moved = points + torch.tensor([4.0, 0.0])
    assert points.shape == (4, 68, 2) and akd(moved, points, 512) == pytest.approx(1.0, abs=1e-4)
    moved[2] = torch.nan
    assert akd(moved, points, 512) == pytest.approx(1.0, abs=1e-4)


def test_jitter_of_a_still_video_is_0_and_noise_adds_to_that_of_the_truth(generator):
    truth = series_of(frames=40)
    assert temporal_jitter(truth, truth) == 1
    assert temporal_jitter(replace(truth, landmarks=truth.landmarks[:1].expand(40, -1, -1)), truth) == 0
    noise = torch.randn(truth.landmarks.shape, generator=generator)
    assert temporal_jitter(replace(truth, landmarks=truth.landmarks + noise), truth) > 2


def test_landmark_errors_tell_a_shifted_face_from_a_wrong_mouth():
    truth = series_of(frames=6, size=256)
    shifted = landmark_errors(replace(truth, landmarks=truth.landmarks + torch.tensor([3.0, 4.0])), truth)
    assert shifted.all == pytest.approx(10, abs=1e-3)  # 5 pixels at 256 are 10 at 512
    assert max(shifted.lip_shape, shifted.mouth_gap, shifted.eye_gap) < 1e-3
    dropped = truth.landmarks.clone()
    dropped[:, 14, 1] += 2 * (dropped[:, 152, 1] - dropped[:, 14, 1]).sign()
    wrong = landmark_errors(replace(truth, landmarks=dropped), truth)
    assert wrong.mouth_gap == pytest.approx(4, rel=0.05) and wrong.all < 0.1 < wrong.lip_shape
