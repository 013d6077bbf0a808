import numpy as np

from modules.procedural.deformations import ball, move, sides, smoothstep, wobble

POINTS = np.random.default_rng(0).uniform(-0.8, 0.8, (200, 3))
MIRRORED = POINTS * [-1, 1, 1]


def test_balls_are_even_and_sides_are_odd():
    centre = (0.3, 0.1, 0.2)
    np.testing.assert_allclose(ball(POINTS, centre, 0.3), ball(MIRRORED, centre, 0.3))
    np.testing.assert_allclose(sides(POINTS, centre, 0.3), -sides(MIRRORED, centre, 0.3))


def test_smoothstep_can_run_down():
    np.testing.assert_allclose(smoothstep(np.array([0.0, 0.5, 1.0]), 1.0, 0.0), [1, 0.5, 0])


def test_a_move_has_three_components():
    np.testing.assert_allclose(move(y=np.array([1.0, 2.0])), [[0, 1, 0], [0, 2, 0]])


def test_a_symmetric_wobble_is_its_own_mirror_image():
    field, mirrored = (wobble(points, np.random.default_rng(1), 0.4, 1.0) for points in (POINTS, MIRRORED))
    np.testing.assert_allclose(field * [-1, 1, 1], mirrored, atol=1e-9)
