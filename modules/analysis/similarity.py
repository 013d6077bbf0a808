"""Shift, turn and scale in the plane."""

import numpy as np


def fit_similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares shift, turn and scale (Umeyama, 1991, without reflection): points, target [N, 2] -> [3, 3]."""
    means = points.mean(0), target.mean(0)
    a, b = (x - mean for x, mean in zip((points, target), means))
    length = (a**2).sum()
    cosine, sine = (a * b).sum() / length, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / length
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, means[1] - turn @ means[0]
    return matrix
