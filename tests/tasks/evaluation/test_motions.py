import torch

from modules.metrics.series import ClipSeries
from modules.procedural.head import procedural_model
from tasks.evaluation.motions import motion_series, repeated_first


def series(frames: int = 6) -> ClipSeries:
    model = procedural_model()
    expression = torch.zeros(frames, 64)
    expression[:, 0] = torch.linspace(0, 1, frames)
    blank = ClipSeries.of(torch.rand(1, 478, 2), 128, model_face(1))
    return motion_series(model, expression, blank, same=True)


def model_face(frames: int):  # noqa: ANN201 (a row of zeros)
    from modules.face3d.coefficients import FaceCoefficients

    return FaceCoefficients.neutral(frames)


def test_a_motion_becomes_landmarks_that_move_with_it() -> None:
    made = series()
    assert made.seen.all() and made.size == 128
    assert (made.landmarks[1:] - made.landmarks[:-1]).abs().amax() > 0


def test_expressions_of_another_face_model_are_not_compared() -> None:
    other = motion_series(procedural_model(), torch.zeros(3, 64), series(), same=False)
    assert other.expression.isnan().all() and other.landmarks.isfinite().all()


def test_a_still_face_is_the_first_frame() -> None:
    still = repeated_first(series())
    assert torch.equal(still.landmarks, series().landmarks[:1].expand(6, -1, -1))
    assert still.mouth_opening.std() == 0 and still.identity.shape == (80,)
