"""The 80 identity modes of the procedural head, in standard deviations: named proportions, then smooth random ones."""

import numpy as np

from modules.procedural.deformations import ball, move, sides, sigmoid, smoothstep, wobble
from modules.procedural.parts import EAR_PIVOT
from modules.procedural.template import EYE_CENTRE, bump

_SEED = 80
_EYE = tuple(EYE_CENTRE + np.array([0, 0, 0.1]))


def identity_modes(points: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> displacement [N, 3] dm for 80 modes.

    Args:
        points: [N, 3] dm, the average head.
        groups: [N] name of each vertex's part.
    """
    modes = {
        **_proportions(points),
        **_jaw(points),
        **_nose(points),
        **_eyes(points, groups),
        **_upper_face(points),
        **_mouth(points),
        **_rest(points, groups),
        **_asymmetries(points),
    }
    generator = np.random.default_rng(_SEED)
    fade = sigmoid((points[:, 1] + 1.15) / 0.07)[:, None]
    for number in range(len(modes), 80):
        radius = 0.55 if number % 2 else 0.38
        modes[f"smooth_{number}"] = 0.0085 * fade * wobble(points, generator, radius, 0.9)
    return modes


def _proportions(points: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = points.T
    head = sigmoid((y + 1.1) / 0.08)
    front = sigmoid((z - 0.1) / 0.08)
    return {
        "face_width": move(0.052 * x * head),
        "face_length": move(y=0.045 * (np.maximum(y, -1.0) - 0.26)),
        "skull_length": move(z=0.06 * np.minimum(z + 0.3, 0) * head),
        "skull_height": move(y=0.05 * smoothstep(y, 0.6, 1.3)),
        "middle_face": move(y=-0.030 * sigmoid((0.0 - y) / 0.06) * np.ones_like(z)),
        "flatness": move(z=-0.06 * (z - 0.35) * front * head),
    }


def _jaw(points: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = points.T
    head = sigmoid((y + 1.05) / 0.05)
    return {
        "jaw_width": move(0.048 * np.tanh(x / 0.3) * np.exp(-(((y + 0.55) / 0.33) ** 2)) * head),
        "chin_height": move(y=-0.042 * sigmoid((-0.66 - y) / 0.06)),
        "chin_forward": move(z=0.045 * ball(points, (0, -0.82, 0.5), 0.28)),
        "chin_width": move(0.030 * np.tanh(x / 0.15) * np.exp(-(((y + 0.84) / 0.17) ** 2))),
        "jaw_angle": move(y=0.040 * ball(points, (0.58, -0.55, 0.0), 0.26)),
        "cheekbones": move(
            0.026 * sides(points, (0.55, 0.05, 0.22), 0.24), z=0.018 * ball(points, (0.5, 0.05, 0.25), 0.22)
        ),
        "cheeks_full": move(
            0.045 * sides(points, (0.52, -0.34, 0.2), 0.27), z=0.025 * ball(points, (0.42, -0.3, 0.35), 0.24)
        ),
        "under_chin": move(y=-0.05 * ball(points, (0, -0.88, 0.1), 0.25)),
    }


def _nose(points: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "nose_length": move(y=-0.034 * ball(points, (0, -0.12, 0.68), 0.21)),
        "nose_width": move(0.024 * sides(points, (0.12, -0.11, 0.58), 0.12)),
        "nose_out": move(z=0.042 * ball(points, (0, -0.06, 0.74), 0.17)),
        "bridge_high": move(z=0.034 * ball(points, (0, 0.15, 0.62), 0.15)),
        "bridge_wide": move(0.013 * sides(points, (0.07, 0.14, 0.58), 0.10)),
        "tip_up": move(y=0.028 * ball(points, (0, -0.06, 0.78), 0.12)),
        "tip_round": move(
            0.014 * sides(points, (0.05, -0.06, 0.74), 0.07), z=0.010 * ball(points, (0, -0.06, 0.76), 0.08)
        ),
        "hump": move(z=0.018 * ball(points, (0, 0.10, 0.66), 0.08)),
        "wings_high": move(y=0.016 * ball(points, (0.13, -0.11, 0.58), 0.08)),
    }


def _eyes(points: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    near, apart = ball(points, _EYE, 0.24), sides(points, _EYE, 0.24)
    offset = points - EYE_CENTRE * np.where(points[:, :1] < 0, -1, 1) * [1, 0, 0] - EYE_CENTRE * [0, 1, 1]
    lids = np.where(groups == "eyeballs", 0, ball(points, _EYE, 0.15))
    upper = lids * (offset[:, 1] > 0)
    side = np.sign(points[:, 0])
    return {
        "eye_distance": move(0.019 * apart),
        "eye_size": 0.065 * near[:, None] * offset,
        "eye_height": move(y=0.018 * near),
        "eye_tilt": move(-0.065 * near * side * offset[:, 1], 0.065 * near * side * offset[:, 0]),
        "eye_depth": move(z=-0.020 * near),
        "eye_open": move(y=0.08 * lids * offset[:, 1]),
        "lid_hood": move(y=-0.08 * upper * np.maximum(offset[:, 1], 0), z=0.012 * upper),
        "eye_bags": move(z=0.012 * ball(points, (0.31, 0.15, 0.4), 0.09)),
    }


def _upper_face(points: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = points.T
    front = sigmoid((z - 0.0) / 0.1)
    return {
        "brow_ridge": move(z=0.022 * ball(points, (0.25, 0.44, 0.5), 0.17)),
        "brow_height": move(y=0.018 * ball(points, (0.28, 0.48, 0.45), 0.14)),
        "forehead_height": move(y=0.045 * smoothstep(y, 0.45, 0.85)),
        "forehead_slope": move(z=-0.05 * smoothstep(y, 0.45, 1.0) * front),
        "forehead_width": move(0.040 * x * np.exp(-(((y - 0.72) / 0.35) ** 2))),
        "temples": move(-0.022 * sides(points, (0.68, 0.45, 0.15), 0.22)),
    }


def _mouth(points: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = points.T
    front = sigmoid((z - 0.3) / 0.04)
    return {
        "mouth_width": move(0.018 * sides(points, (0.24, -0.43, 0.5), 0.17)),
        "mouth_height": move(y=0.020 * ball(points, (0, -0.43, 0.55), 0.26)),
        "upper_lip": move(
            y=0.017 * bump(x, y, (0, -0.335, 0.19, 0.05)) * front, z=0.008 * bump(x, y, (0, -0.36, 0.19, 0.05)) * front
        ),
        "lower_lip": move(
            y=-0.020 * bump(x, y, (0, -0.540, 0.19, 0.055)) * front, z=0.008 * bump(x, y, (0, -0.5, 0.19, 0.05)) * front
        ),
        "lips_out": move(z=0.018 * ball(points, (0, -0.43, 0.60), 0.17)),
        "corners_up": move(y=0.012 * ball(points, (0.25, -0.43, 0.5), 0.10)),
        "bow": move(y=0.008 * bump(x, y, (0.055, -0.34, 0.04, 0.03)) * front),
        "fold": move(z=-0.014 * bump(x, y, (0.235, -0.27, 0.05, 0.11)) * front),
    }


def _rest(points: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = points.T
    ear = groups == "ears"
    from_pivot = points - EAR_PIVOT * np.where(points[:, :1] < 0, -1, 1) * [1, 0, 0] - EAR_PIVOT * [0, 1, 1]
    low = sigmoid((-1.0 - y) / 0.08)
    body = np.isin(groups, ["neck", "shoulders"])
    return {
        "ear_size": np.where(ear[:, None], 0.09 * from_pivot, 0),
        "ears_out": move(np.where(ear, 0.16 * np.sign(x) * np.maximum(-from_pivot[:, 2], 0), 0)),
        "neck_width": np.where(body[:, None], move(0.075 * np.tanh(x / 0.6) * 0.6 * low, 0, 0.04 * (z + 0.5) * low), 0),
        "shoulder_width": move(0.055 * np.sign(x) * np.maximum(np.abs(x) - 0.55, 0) * low * body),
        "shoulder_height": move(y=0.06 * smoothstep(np.abs(x), 0.5, 1.4) * low * body),
        "neck_length": move(y=-0.06 * smoothstep(y, -0.95, -1.45) * body),
    }


def _asymmetries(points: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "nose_aside": move(0.008 * ball(points, (0, 0.0, 0.68), 0.18)),
        "chin_aside": move(0.012 * ball(points, (0, -0.75, 0.45), 0.35)),
        "eyes_uneven": move(y=0.006 * sides(points, _EYE, 0.26)),
        "mouth_slope": move(y=0.006 * sides(points, (0.2, -0.43, 0.52), 0.18)),
    }
