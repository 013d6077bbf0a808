import numpy as np
import pytest

from modules.procedural.template import (
    ARC_LENGTH,
    EYE_CENTRE,
    EYE_RADIUS,
    LID_GAP,
    Surface,
    eye_contour,
    lip_heights,
    loft,
    outward,
    over_eyes,
    skin,
)


@pytest.fixture(scope="module")
def front() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(-0.35, 0.35, 21), np.linspace(-0.8, 0.7, 31))
    return x.ravel(), y.ravel()


def test_points_of_the_front_keep_their_frontal_coordinates(front):
    x, y = front
    points = skin(Surface.of_front(x, y), np.ones(len(x), bool))
    np.testing.assert_allclose(points[:, :2], np.stack(front, -1), atol=2e-3)


def test_the_face_is_symmetric(front):
    x, y = front
    right, left = (skin(Surface.of_front(sign * x, y), np.ones(len(x), bool)) for sign in (1, -1))
    np.testing.assert_allclose(right * [-1, 1, 1], left, atol=1e-9)


def test_the_nose_stands_out_furthest(front):
    points = skin(Surface.of_front(*front), np.ones(len(front[0]), bool))
    tip = points[points[:, 2].argmax()]
    assert abs(tip[0]) < 0.05 and -0.2 < tip[1] < 0.1


def test_normals_point_away_from_the_inside():
    surface = Surface(np.linspace(-3, 3, 50), np.linspace(1.0, ARC_LENGTH - 0.3, 50))  # above the jaw
    inside = loft(surface) * [0, 1, 0] + [0, 0, -0.3]
    assert (((loft(surface) - inside) * outward(surface)).sum(1) > 0).all()


def test_lids_lie_outside_the_eyeball():
    offset = np.stack(np.meshgrid(np.linspace(-0.12, 0.12, 13), np.linspace(-0.06, 0.06, 7)), -1).reshape(-1, 2)
    flat = np.concatenate([EYE_CENTRE[:2] + offset, np.full((len(offset), 1), 0.3)], axis=1)
    distance = np.linalg.norm(over_eyes(flat) - EYE_CENTRE, axis=1)
    assert (distance > EYE_RADIUS + 0.8 * LID_GAP).all()


def test_rings_around_the_eye_do_not_cross():
    turn = np.linspace(0, 2 * np.pi, 40)
    inner, outer = (np.linalg.norm(eye_contour(turn, distance) - EYE_CENTRE[:2], axis=1) for distance in (0.0, 0.03))
    assert (outer > inner).all()


def test_lips_end_at_the_corners():
    high, low = lip_heights(np.array([0.0, 1.0]))
    assert high[0] > 0.06 and low[0] > 0.06 and high[1] == 0 and low[1] == 0
