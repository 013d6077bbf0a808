"""The triangles of the skin: rings around eyes and mouth, a grid elsewhere, mirrored; holes for eyes and mouth."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from modules.procedural.template import (
    ARC_LENGTH,
    EYE_CENTRE,
    EYE_RADIUS,
    MOUTH_HALF_WIDTH,
    Surface,
    eye_contour,
    lip_heights,
    lip_line,
    skin,
)

_EYE_POINTS = 32
_EYE_RINGS = (0.0, 0.012, 0.028, 0.048, 0.074, 0.105)
_LIP_POINTS = 14  # from the middle to a corner
_LIP_RINGS = (0.0, 0.14, 0.32, 0.55, 0.8, 1.0, 1.25, 1.6, 2.1)  # in heights of the red of the lip
_UNROLL = 0.72  # dm of the layout for a radian of angle
_OPEN = 0.055  # dm; the layout's mouth is open, to keep the lips distinct


@dataclass(frozen=True)
class Shell:
    """The skin as a mesh.

    Args:
        points: [N, 3] dm.
        triangles: [M, 3], counter-clockwise from outside.
        lip: [N] 1 on the upper lip and around it, -1 on the lower, 0 elsewhere.
        angle: [N] radians around the head, 0 in front.
        eye_edges: [2, 32] vertices of the lids' edges, of the eye at x > 0 and at x < 0, in order.
        lip_edges: [2, K] vertices of the upper and of the lower lip along the mouth, from x < 0 to x > 0.
    """

    points: np.ndarray
    triangles: np.ndarray
    lip: np.ndarray
    angle: np.ndarray
    eye_edges: np.ndarray
    lip_edges: np.ndarray


@dataclass(frozen=True)
class _Half:
    surface: Surface
    layout: np.ndarray  # [N, 2]
    lip: np.ndarray  # [N]
    triangles: np.ndarray  # [M, 3]


def _mouth_rings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frontal coordinates [N, 2], lip [N] and opening of the layout [N]; rings run from the top to the bottom."""
    quarter = np.sin(np.linspace(0, np.pi / 2, _LIP_POINTS))
    points, lips, shifts = [], [], []
    for ring in _LIP_RINGS:
        half_width = MOUTH_HALF_WIDTH + 0.022 * ring
        x = np.concatenate([quarter, quarter[-2::-1]]) * half_width
        lip = np.where(np.arange(len(x)) < _LIP_POINTS, 1, -1)
        high, low = lip_heights(x, half_width)
        points.append(np.stack([x, lip_line(x) + ring * np.where(lip > 0, high, -low)], axis=-1))
        shift = _OPEN * np.clip(1 - (x / half_width) ** 2, 0, 1) ** 0.5 * (1 - ring / _LIP_RINGS[-1])
        lips.append(lip)
        shifts.append(shift * lip)
    return np.concatenate(points), np.concatenate(lips), np.concatenate(shifts)


def _lattice(low: tuple[float, float], high: tuple[float, float], step: float) -> np.ndarray:
    rows = np.arange(low[1], high[1], step * 0.87)
    points = [np.stack([np.arange(low[0] + (k % 2) * step / 2, high[0], step)] * 2, axis=-1) for k in range(len(rows))]
    for row, line in zip(rows, points):
        line[:, 1] = row
    return np.concatenate(points)


def _fill(layout: np.ndarray) -> np.ndarray:
    """Layout points to add between the rings: dense on the nose, medium on the face, coarse elsewhere."""
    edge_step, width = 0.045, np.pi * _UNROLL
    face = Surface.of_front(np.zeros(4), np.array([-0.98, -0.30, 0.40, 0.72])).arc
    lines = np.arange(0, ARC_LENGTH + 1e-9, ARC_LENGTH / round(ARC_LENGTH / edge_step))
    seams = [np.stack([np.full_like(lines, u), lines], axis=-1) for u in (0.0, width)]
    across = np.arange(edge_step, width - 0.01, edge_step)
    seams += [np.stack([across, np.full_like(across, v)], axis=-1) for v in (0.0, ARC_LENGTH)]
    groups = [(_lattice((0.0, face[1] - 0.1), (0.21, face[2]), 0.024), 0.017)]
    groups += [(seam, 0.016) for seam in seams]
    groups += [
        (_lattice((0.03, 0.06), (0.72, face[3]), 0.042), 0.028),
        (_lattice((0.06, 0.06), (width - 0.04, ARC_LENGTH - 0.04), 0.095), 0.062),
    ]
    added = layout
    for points, spacing in groups:
        far = cKDTree(added).query(points)[0] > spacing
        added = np.concatenate([added, points[far]])
    return added[len(layout) :]


def _outside_rings(points: np.ndarray, rings: list[np.ndarray]) -> np.ndarray:
    """True for layout points that no ring polygon contains."""
    outside = np.ones(len(points), dtype=bool)
    for ring in rings:
        a, b = ring, np.roll(ring, -1, axis=0)
        x, y = points[:, None, 0], points[:, None, 1]
        crosses = (a[:, 1] > y) != (b[:, 1] > y)
        height = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
        inside = (crosses & (x < (b[:, 0] - a[:, 0]) * (y - a[:, 1]) / height + a[:, 0])).sum(1) % 2 == 1
        outside &= ~inside
    return outside


def _half() -> _Half:
    turn = np.linspace(0, 2 * np.pi, _EYE_POINTS, endpoint=False)
    eye = np.concatenate([eye_contour(turn, distance) for distance in _EYE_RINGS])
    mouth, lip, shift = _mouth_rings()
    front = np.concatenate([eye, mouth])
    surface = Surface.of_front(front[:, 0], front[:, 1])
    layout = np.stack([surface.angle * _UNROLL, surface.arc + np.concatenate([np.zeros(len(eye)), shift])], axis=-1)
    ring = 2 * _LIP_POINTS - 1
    rings = [layout[len(eye) - _EYE_POINTS : len(eye)], layout[-ring:]]
    fill = _fill(layout)
    fill = fill[_outside_rings(fill - np.array([1e-6, 0]), rings) & _clear_of_mouth(fill, layout[-ring:])]
    layout = np.concatenate([layout, fill])
    angle = np.concatenate([surface.angle, fill[:, 0] / _UNROLL])
    arc = np.concatenate([surface.arc, fill[:, 1]])
    lips = np.concatenate([np.zeros(len(eye), int), lip, np.zeros(len(fill), int)])
    triangles = Delaunay(layout).simplices
    edges = layout[triangles]
    (ax, ay), (bx, by) = (edges[:, 1] - edges[:, 0]).T, (edges[:, 2] - edges[:, 0]).T
    area = ax * by - ay * bx
    triangles = np.where((area < 0)[:, None], triangles[:, ::-1], triangles)
    start = len(eye)
    in_eye = (triangles < _EYE_POINTS).all(1)
    in_mouth = ((triangles >= start) & (triangles < start + ring)).all(1)
    return _Half(Surface(angle, arc), layout, lips, triangles[~in_eye & ~in_mouth & (np.abs(area) > 1e-9)])


def _clear_of_mouth(points: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """False for points of the middle line between the top and the bottom of the mouth's outer ring."""
    return (points[:, 0] > 1e-6) | (points[:, 1] > outer[0, 1]) | (points[:, 1] < outer[-1, 1])


def build_shell() -> Shell:
    """Both halves of the skin, joined in the middle."""
    half = _half()
    count = len(half.lip)
    upper = half.lip >= 0
    points = skin(half.surface, np.where(half.lip == 0, _above_lips(half.surface), upper))
    middle = (half.surface.angle < 1e-6) | (half.surface.angle > np.pi - 1e-6)
    points[middle, 0] = 0
    other = np.where(middle, np.arange(count), count + np.cumsum(~middle) - 1)
    mirrored = points[~middle] * np.array([-1, 1, 1])
    eye_count = _EYE_POINTS * len(_EYE_RINGS)
    upper_edge = eye_count + np.arange(_LIP_POINTS)
    lower_edge = eye_count + 2 * (_LIP_POINTS - 1) - np.arange(_LIP_POINTS)
    edges = [np.concatenate([other[edge[:0:-1]], edge]) for edge in (upper_edge, lower_edge)]
    eye_edge = np.arange(_EYE_POINTS)
    return Shell(
        points=np.concatenate([points, mirrored]),
        triangles=np.concatenate([half.triangles, other[half.triangles][:, ::-1]]),
        lip=np.concatenate([half.lip, half.lip[~middle]]),
        angle=np.concatenate([half.surface.angle, -half.surface.angle[~middle]]),
        eye_edges=np.stack([eye_edge, other[eye_edge]]),
        lip_edges=np.stack(edges),
    )


def _above_lips(surface: Surface) -> np.ndarray:
    """True above the line between the lips."""
    return surface.arc > Surface.of_front(np.zeros(1), lip_line(np.zeros(1))).arc[0]


def eye_rim(points: np.ndarray) -> np.ndarray:
    """The inner edge of the lids, on the eyeball, for points of their outer edge: [N, 3] dm -> [N, 3] dm."""
    sign = np.sign(points[:, :1])
    offset = points[:, :2] * np.concatenate([sign, np.ones_like(sign)], axis=1) - EYE_CENTRE[:2]
    offset = offset * 0.95
    depth = np.sqrt(np.maximum((EYE_RADIUS + 0.001) ** 2 - (offset**2).sum(1), 1e-4))
    return np.stack(
        [sign[:, 0] * (EYE_CENTRE[0] + offset[:, 0]), EYE_CENTRE[1] + offset[:, 1], EYE_CENTRE[2] + depth - 0.004],
        axis=-1,
    )
