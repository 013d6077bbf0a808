import numpy as np
import pytest
import torch

from data_gen.faces import FaceLimits, fit_face
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face_models import load_face_model
from modules.system.errors import UserError

FRAMES, SHAPE = 6, (400, 600)


def landmarks_of(euler=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Landmarks [FRAMES, 478, 2] in a square picture."""
    model, face = load_face_model("procedural"), FaceCoefficients.neutral(FRAMES)
    points = model.landmarks(face.identity, face.expression, 478)
    posed = pose_points(points, torch.tensor([euler] * FRAMES), torch.tensor([[0.0, 0.0, -5.0]] * FRAMES))
    return project(posed).double().numpy()


def in_frame(landmarks: np.ndarray, left: float = 100, top: float = 0, side: float = 400) -> np.ndarray:
    """From fractions of a square of the frame (pixels) to fractions of the frame."""
    return (landmarks * side + (left, top)) / SHAPE[::-1]


def test_a_face_is_cropped_and_fitted():
    landmarks = in_frame(landmarks_of((0.1, 0.3, 0.0)))
    fitted = fit_face(load_face_model("procedural"), landmarks, SHAPE, FaceLimits())
    assert fitted.box.width == fitted.box.height <= 400 and len(fitted.face) == FRAMES
    pixels = fitted.landmarks * fitted.box.width + (fitted.box.left, fitted.box.top)
    np.testing.assert_allclose(pixels, landmarks * SHAPE[::-1], atol=1e-6)
    torch.testing.assert_close(fitted.face.euler[:, 1], torch.full((FRAMES,), 0.3), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "framing, message",
    [
        ({"side": 150, "left": 200, "top": 100}, "pixels wide"),
        ({"left": -180}, "cut off by the border"),
        ({"side": 800, "left": -100, "top": -200}, "does not fit into the picture"),
    ],
)
def test_badly_framed_faces_are_refused(framing, message):
    with pytest.raises(UserError, match=message):
        fit_face(load_face_model("procedural"), in_frame(landmarks_of(), **framing), SHAPE, FaceLimits())


def test_a_head_that_crosses_the_picture_is_refused():
    moving = in_frame(landmarks_of(), side=100, left=250, top=150)
    moving[:, :, 0] += np.linspace(-0.15, 0.15, FRAMES)[:, None]
    with pytest.raises(UserError, match="moves too far"):
        fit_face(load_face_model("procedural"), moving, SHAPE, FaceLimits(smallest_face=40))


def test_a_turned_head_and_a_face_that_is_none_are_refused():
    model = load_face_model("procedural")
    with pytest.raises(UserError, match="turned by 4"):
        fit_face(model, in_frame(landmarks_of((0.0, 0.75, 0.0))), SHAPE, FaceLimits(largest_turn=30))
    shaken = landmarks_of() + 0.03 * np.random.default_rng(0).standard_normal((478, 2))
    with pytest.raises(UserError, match="does not fit"):
        fit_face(model, in_frame(shaken), SHAPE, FaceLimits())


def test_impossible_limits_are_refused():
    with pytest.raises(ValueError, match="largest_turn 95"):
        FaceLimits(largest_turn=95)
