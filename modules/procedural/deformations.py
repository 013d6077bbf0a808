"""Smooth displacement fields that identity and expression modes are made of."""

import numpy as np

Array = np.ndarray


def sigmoid(value: Array) -> Array:
    """The logistic function: any shape -> the same in (0, 1), 1/2 at 0."""
    return 0.5 + 0.5 * np.tanh(value / 2)


def smoothstep(value: Array, low: float, high: float) -> Array:
    """Any shape -> the same, 0 below `low`, 1 above `high`, smooth between; low > high reverses it."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def ball(points: Array, centre: tuple[float, float, float], radius: float) -> Array:
    """Gaussian around a point of the middle plane, or around a point and its mirror image.

    Args:
        points: [N, 3] dm.
        centre: dm; x = 0 is the middle plane.
        radius: dm.
    Returns:
        [N], 1 at the centre.
    """
    right = np.exp(-((points - np.array(centre)) ** 2).sum(1) / radius**2)
    if centre[0] == 0:
        return right
    return right + np.exp(-((points - np.array(centre) * [-1, 1, 1]) ** 2).sum(1) / radius**2)


def sides(points: Array, centre: tuple[float, float, float], radius: float) -> Array:
    """`ball` with -1 at the mirrored centre: [N, 3] dm -> [N]; a factor of what moves apart."""
    mirrored = np.exp(-((points - np.array(centre) * [-1, 1, 1]) ** 2).sum(1) / radius**2)
    return ball(points, centre, radius) - 2 * mirrored


def move(x: Array | float = 0.0, y: Array | float = 0.0, z: Array | float = 0.0) -> Array:
    """A displacement field [N, 3] dm of three components, [N] or a number each, at least one [N]."""
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(float)


def wobble(points: Array, generator: np.random.Generator, radius: float, symmetric: float) -> Array:
    """A random smooth field [N, 3] with root mean square 1 over the face.

    Args:
        points: [N, 3] dm.
        generator: of the field's centres and strengths.
        radius: of the bumps that it is made of, dm.
        symmetric: share of left-right symmetry, 0 to 1.
    """
    centres = generator.uniform([-0.75, -0.95, -0.1], [0.75, 0.85, 0.75], (14, 3))
    strength = generator.normal(size=(14, 3))
    columns = np.ascontiguousarray(points.T)  # a coordinate at a time is several times as fast
    field = np.zeros_like(columns)
    for centre, amount in zip(centres, strength):
        for side, share in ((np.array([1, 1, 1]), 1.0), (np.array([-1, 1, 1]), symmetric)):
            x, y, z = (columns - (centre * side)[:, None]) ** 2
            field += share * np.exp(-(x + y + z) / radius**2) * (amount * side)[:, None]
    field = np.ascontiguousarray(field.T)
    face = (points[:, 2] > 0) & (np.abs(points[:, 1]) < 0.95)
    return field / np.sqrt((field[face] ** 2).sum(1).mean())
