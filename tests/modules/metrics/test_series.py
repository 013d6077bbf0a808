import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients
from modules.metrics.series import ClipSeries, eye_opening, mouth_opening, mouth_width
from modules.procedural.clips import named_expression
from modules.procedural.head import procedural_model
from tests.metric_clips import series_of


def test_an_opening_grows_with_the_jaw_and_not_with_the_picture():
    model = procedural_model()
    points = model.landmarks(torch.zeros(1, 80), named_expression(3, jaw_open=torch.tensor([0.0, 0.5, 1.0])), 478)
    opening = mouth_opening(points[..., :2])
    assert opening[0] < 0.05 and 0.1 < opening[1] < opening[2] < 1
    torch.testing.assert_close(mouth_opening(7 * points[..., :2]), opening)
    assert torch.isnan(mouth_opening(torch.full((478, 2), torch.nan)))


def test_lips_get_narrow_by_puckering_and_lids_by_blinking():
    model = procedural_model()

    def measured(measure, **actions):
        points = model.landmarks(torch.zeros(1, 80), named_expression(1, **actions), 478)
        return measure(points[..., :2])[0]

    assert measured(mouth_width, pucker=1.0) < 0.9 * measured(mouth_width)
    assert measured(eye_opening, blink_left=1.0, blink_right=1.0).max() < 0.3 * measured(eye_opening).min()
    one = measured(eye_opening, blink_left=1.0)
    assert (one < 0.5 * measured(eye_opening)).sum() == 1


def test_frames_without_a_face_are_nan_and_the_fit_is_spread_over_the_others():
    landmarks = series_of(frames=5).landmarks.clone()
    landmarks[2, 7] = torch.nan
    fit = FaceCoefficients.neutral(4).replace(expression=torch.arange(4.0)[:, None].expand(4, 64))
    series = ClipSeries.of(landmarks, 512, fit)
    assert series.seen.tolist() == [True, True, False, True, True] == (series.faces == 1).tolist()
    assert series.expression[[0, 1, 3, 4], 0].tolist() == [0, 1, 2, 3] and series.expression[2].isnan().all()
    assert series.landmarks[2].isnan().all() and series.mouth_opening[2].isnan() and series.eye_opening[2].isnan().all()
    assert len(series) == 5 and len(series[1:4]) == 3 and series[1:4].euler[1].isnan().all()
    with pytest.raises(ValueError, match="3 rows for 4 faces in 5 frames"):
        ClipSeries.of(landmarks, 512, fit[:3])


def test_a_field_of_a_wrong_shape_is_named():
    series = series_of(frames=3)
    with pytest.raises(ValueError, match=r"euler has shape \(2, 3\); expected \[3, 3\]"):
        ClipSeries(**{**series.__dict__, "euler": series.euler[:2]})
