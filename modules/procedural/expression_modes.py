"""The 64 expression modes of the procedural head: named actions first (1 = full), then small smooth ones."""

from dataclasses import dataclass

import numpy as np

from modules.procedural.deformations import move, smoothstep, wobble
from modules.procedural.template import (
    EYE_CENTRE,
    EYE_HALF_WIDTH,
    EYE_RADIUS,
    LID_GAP,
    MOUTH_HALF_WIDTH,
    MOUTH_HEIGHT,
    bump,
    eye_contour,
    lip_line,
)

_SEED = 64
_SPOKEN = ("lip_corners", "pucker", "lips_press", "smile")  # actions of the mouth with a fixed early index
_JAW_AXIS = np.array([0.0, 0.02, -0.30])
_JAW_ANGLE = np.deg2rad(16.5)
_GAZE_ANGLE = np.deg2rad(24)
_CORNER_SHARE = 0.42  # of the jaw's motion, at the corners of the mouth


@dataclass(frozen=True)
class Rig:
    """What the actions need to know about each vertex.

    Args:
        points: [N, 3] dm, the average head.
        groups: [N] names of the parts.
        lip: [N] 1 upper, -1 lower, 0 elsewhere (skin).
        jaw: [N] share of the jaw's motion, 0 to 1, for parts other than the skin.
    """

    points: np.ndarray
    groups: np.ndarray
    lip: np.ndarray
    jaw: np.ndarray

    @property
    def skin(self) -> np.ndarray:
        """[N] 1 on the skin of the head's front, 0 elsewhere."""
        return (self.groups == "skin") * smoothstep(self.points[:, 2], -0.1, 0.2)

    @property
    def above(self) -> np.ndarray:
        """[N] True for the upper lip and what lies above the line of the mouth."""
        return np.where(self.lip == 0, self.points[:, 1] > lip_line(self.points[:, 0]), self.lip > 0)


def expression_modes(rig: Rig) -> dict[str, np.ndarray]:
    """Name -> displacement [N, 3] dm for 64 modes."""
    mouth = _mouth_actions(rig)
    modes = {
        "jaw_open": _jaw_turn(rig, _JAW_ANGLE),
        "lip_corners": mouth["lip_corners"],
        "pucker": mouth["pucker"],
        "lips_press": mouth["lips_press"],
        "blink_left": _blink(rig, 1),
        "blink_right": _blink(rig, -1),
        **_brows(rig),
        **_gaze(rig),
        "smile": mouth["smile"],
        **{name: field for name, field in mouth.items() if name not in _SPOKEN},
        **_small_actions(rig),
        **_jaw_shifts(rig),
        **_tongue(rig),
    }
    generator = np.random.default_rng(_SEED)
    for number in range(len(modes), 64):
        lower = number % 2 == 0
        height = rig.points[:, 1]
        where = smoothstep(height, -0.1, -0.3) if lower else smoothstep(height, 0.45, 0.6)
        field = wobble(rig.points, generator, 0.30, 0.8) * (where * rig.skin)[:, None]
        modes[f"detail_{number}"] = 0.007 * field
    return modes


def jaw_weight(rig: Rig) -> np.ndarray:
    """Share [N] of the jaw's motion: 1 on chin and lower lip, 0 on the upper lip, between at the corners."""
    x, y, z = rig.points.T
    away = np.abs(x) / MOUTH_HALF_WIDTH
    corner = 1 - np.clip(1 - away**2, 0, 1) ** 0.55  # an oval opening
    below = lip_line(x) - y
    reach = 0.12 + 0.5 * np.maximum(np.abs(x) - MOUTH_HALF_WIDTH, 0)
    upper = _CORNER_SHARE * corner * np.exp(-((below / reach) ** 2))
    lower = 1 - (1 - _CORNER_SHARE) * corner * np.exp(-((below / (1.6 * reach)) ** 2))
    weight = np.where(rig.above, upper, lower)
    behind = smoothstep(z + 0.35 * (y + 0.9), -0.40, 0.05)
    return np.where(rig.groups == "skin", weight * behind, rig.jaw)


def _jaw_turn(rig: Rig, angle: float) -> np.ndarray:
    offset = rig.points - _JAW_AXIS
    turned = np.stack(
        [
            offset[:, 0],
            np.cos(angle) * offset[:, 1] - np.sin(angle) * offset[:, 2],
            np.sin(angle) * offset[:, 1] + np.cos(angle) * offset[:, 2],
        ],
        axis=-1,
    )
    x, y = rig.points[:, 0], rig.points[:, 1]
    cheeks = move(-0.035 * np.tanh(x / 0.3) * bump(x, y, (0.42, -0.38, 0.15, 0.2)) * rig.skin)
    corners = move(-0.030 * _corner_sides(rig))
    return jaw_weight(rig)[:, None] * (turned - offset) + cheeks + corners


def _corner_sides(rig: Rig) -> np.ndarray:
    x, y = rig.points[:, 0], rig.points[:, 1]
    return np.tanh(x / 0.08) * bump(x, y, (MOUTH_HALF_WIDTH, MOUTH_HEIGHT, 0.13, 0.12)) * rig.skin


def _mouth_actions(rig: Rig) -> dict[str, np.ndarray]:
    x, y, z = rig.points.T
    skin = rig.skin
    corner = bump(x, y, (MOUTH_HALF_WIDTH, MOUTH_HEIGHT, 0.13, 0.12)) * skin
    apart = _corner_sides(rig)
    around = bump(x, y, (0, MOUTH_HEIGHT, 0.27, 0.17)) * skin
    middle = np.exp(-((x / 0.17) ** 2)) * skin
    upper = np.where(rig.above, np.exp(-(((y - MOUTH_HEIGHT - 0.02) / 0.13) ** 2)), 0) * middle
    lower = np.where(rig.above, 0, np.exp(-(((y - MOUTH_HEIGHT + 0.03) / 0.14) ** 2))) * middle
    near = np.exp(-(((y - MOUTH_HEIGHT) / 0.13) ** 2)) * np.exp(-((x / 0.24) ** 4)) * skin
    red = np.where(rig.above, -1, 1) * near * np.clip(np.abs(y - lip_line(x)) / 0.09, 0, 1)
    opening = -_jaw_turn(rig, _JAW_ANGLE)
    gap = 0.27 * np.clip(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0, 1) * skin
    cheek = bump(x, y, (0.37, -0.07, 0.15, 0.13)) * skin
    lower_lid = bump(x, y, (0.31, 0.20, 0.14, 0.04)) * skin
    return {
        "lip_corners": move(0.055 * apart, 0.006 * corner, -0.030 * corner),
        "pucker": move(-0.57 * x * around, -0.022 * red, 0.105 * around),
        "lips_press": move(0.010 * apart, 0.045 * red, -0.028 * near),
        "smile": move(
            0.070 * apart + 0.010 * np.tanh(x / 0.1) * cheek,
            0.078 * corner + 0.030 * cheek + 0.012 * lower_lid,
            -0.045 * corner + 0.022 * cheek - 0.012 * around,
        ),
        "funnel": move(-0.30 * x * around, 0.040 * upper - 0.055 * lower, 0.060 * around),
        "upper_lip_up": move(y=0.055 * upper, z=0.006 * upper),
        "lower_lip_down": move(y=-0.060 * lower, z=-0.004 * lower),
        "lip_tuck": move(y=0.045 * lower, z=-0.055 * lower),
        "lips_close": np.where(
            (near > 0.02)[:, None],
            np.where(rig.above[:, None], move(y=-0.35 * gap * near), 0.65 * opening * (gap * near / 0.27)[:, None]),
            0,
        ),
        "frown": move(0.010 * apart, -0.055 * corner - 0.010 * around, -0.008 * corner),
        "mouth_side": move(0.06 * around),
        "dimple": move(0.028 * apart, 0.010 * corner, -0.040 * corner),
    }


def _lid_field(rig: Rig, side: int, target: np.ndarray, upper: bool) -> np.ndarray:
    """Move a lid over the eyeball so that its edge reaches the heights `target` [N]; the motion fades away from it."""
    x, y = rig.points[:, 0] * side - EYE_CENTRE[0], rig.points[:, 1] - EYE_CENTRE[1]
    turn = np.linspace(0, np.pi, 200) * (1 if upper else -1)
    contour = eye_contour(turn, 0.0) - EYE_CENTRE[:2]
    order = np.argsort(contour[:, 0])
    edge = np.interp(x, contour[order, 0], contour[order, 1])
    beyond = (y - edge) if upper else (edge - y)
    inside = (np.abs(x) < EYE_HALF_WIDTH + 0.05) & (beyond > -0.004)
    aside, beyond = np.abs(x), np.maximum(beyond, 0)
    reach = np.exp(-((beyond / 0.050) ** 2)) * smoothstep(aside, EYE_HALF_WIDTH + 0.03, EYE_HALF_WIDTH * 0.6)
    at_edge = np.where(aside < EYE_HALF_WIDTH, np.exp(-((beyond / 0.03) ** 2)), 0)
    reach = np.maximum(reach, at_edge)
    rise = np.where(inside, reach * (target - edge), 0) * rig.skin

    def depth(height: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum((EYE_RADIUS + LID_GAP) ** 2 - x**2 - height**2, 1e-4))

    bulge = 0.010 * np.abs(rise) / 0.1
    return move(y=rise, z=np.where(inside, depth(y + rise) - depth(y), 0) * (np.abs(rise) > 1e-6) + bulge)


def _closed_line(rig: Rig, side: int) -> np.ndarray:
    x = rig.points[:, 0] * side - EYE_CENTRE[0]
    share = np.clip(x / EYE_HALF_WIDTH, -1, 1)
    return -0.034 * (1 - share**2) + 0.010 * share


def _blink(rig: Rig, side: int) -> np.ndarray:
    share = np.clip((rig.points[:, 0] * side - EYE_CENTRE[0]) / EYE_HALF_WIDTH, -1, 1)
    line = _closed_line(rig, side)  # the upper lid goes a little further and covers the lower one
    return _lid_field(rig, side, line - 0.024 * (1 - share**2), upper=True) + _lid_field(rig, side, line, upper=False)


def _lids(rig: Rig, share: float, upper: bool) -> np.ndarray:
    """Both lids of one kind moved by `share` of the way to closed (negative: opened further)."""
    fields = []
    for side in (1, -1):
        field = _blink(rig, side)
        x, y = rig.points[:, 0] * side - EYE_CENTRE[0], rig.points[:, 1] - EYE_CENTRE[1]
        fields.append(
            field
            if upper
            else _lid_field(
                rig,
                side,
                0.012 * (1 - np.clip(x / EYE_HALF_WIDTH, -1, 1) ** 2) + 0.010 * x / EYE_HALF_WIDTH,
                upper=False,
            )
            * (y < 0.02)[:, None]
        )
    return share * (fields[0] + fields[1])


def _brows(rig: Rig) -> dict[str, np.ndarray]:
    x, y = rig.points[:, 0], rig.points[:, 1]
    skin = rig.skin * smoothstep(y, EYE_CENTRE[1] + 0.07, EYE_CENTRE[1] + 0.16)
    brow = bump(x, y, (0.28, 0.48, 0.24, 0.17)) * skin
    inner = bump(x, y, (0.11, 0.47, 0.13, 0.13)) * skin
    return {
        "brows_up": move(y=0.085 * brow, z=-0.014 * brow),
        "brows_down": move(-0.035 * np.tanh(x / 0.05) * inner, -0.055 * brow - 0.020 * inner, 0.012 * inner),
    }


def _gaze(rig: Rig) -> dict[str, np.ndarray]:
    """Eyeballs turned to the right of the picture (x) and up (y); lids follow the look up and down."""
    centre = EYE_CENTRE * np.where(rig.points[:, :1] < 0, -1, 1) * [1, 0, 0] + EYE_CENTRE * [0, 1, 1]
    ball_points = np.where((rig.groups == "eyeballs")[:, None], rig.points - centre, 0)
    amount = np.sin(_GAZE_ANGLE)
    x, y, z = ball_points.T
    return {
        "gaze_x": amount * move(z, 0, -x),
        "gaze_y": amount * move(0, z, -y) + _lids(rig, -0.18, upper=True),
    }


def _small_actions(rig: Rig) -> dict[str, np.ndarray]:
    x, y = rig.points[:, 0], rig.points[:, 1]
    skin = rig.skin
    inner = bump(x, y, (0.12, 0.47, 0.12, 0.13)) * skin * smoothstep(y, EYE_CENTRE[1] + 0.07, EYE_CENTRE[1] + 0.16)
    outer = bump(x, y, (0.42, 0.47, 0.14, 0.13)) * skin * smoothstep(y, EYE_CENTRE[1] + 0.07, EYE_CENTRE[1] + 0.16)
    cheek = bump(x, y, (0.45, -0.33, 0.17, 0.18)) * skin
    wing = bump(x, y, (0.12, -0.08, 0.08, 0.09)) * skin
    return {
        "cheek_puff": move(0.060 * np.tanh(x / 0.2) * cheek, 0, 0.045 * cheek),
        "nose_wrinkle": move(0.006 * np.tanh(x / 0.05) * wing, 0.028 * wing, 0.010 * wing),
        "squint": _lids(rig, 1.0, upper=False) * 0.8,
        "eyes_wide": _lids(rig, -0.30, upper=True),
        "brow_inner_up": move(y=0.070 * inner, z=-0.010 * inner),
        "brow_outer_up": move(y=0.060 * outer, z=-0.012 * outer),
    }


def _jaw_shifts(rig: Rig) -> dict[str, np.ndarray]:
    weight = jaw_weight(rig)
    return {"jaw_side": move(0.07 * weight), "jaw_forward": move(z=0.06 * weight)}


def _tongue(rig: Rig) -> dict[str, np.ndarray]:
    tongue = rig.groups == "tongue"
    front = tongue * smoothstep(rig.points[:, 2], 0.20, 0.45)
    return {
        "tongue_up": move(y=0.085 * front, z=0.03 * front),
        "tongue_out": move(y=0.045 * front, z=0.16 * front),
    }
