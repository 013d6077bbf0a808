import numpy as np
from numpy.testing import assert_allclose

from modules.analysis.similarity import fit_similarity


def test_shift_turn_and_scale_are_found_exactly() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    turn = 1.3 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    matrix = fit_similarity(points, points @ turn.T + (5, -7))
    assert_allclose(matrix, [[*turn[0], 5], [*turn[1], -7], [0, 0, 1]], atol=1e-9)
