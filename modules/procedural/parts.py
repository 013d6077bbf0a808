"""Parts of the average head beside the skin: lids' rims, mouth, teeth, tongue, eyeballs, ears, neck, shoulders."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from modules.procedural.shell import Shell, eye_rim
from modules.procedural.template import EYE_CENTRE, EYE_RADIUS, MOUTH_HEIGHT

EAR_PIVOT = np.array([0.715, 0.045, -0.27])
_EYE_RINGS, _EYE_SPOKES = 13, 28


@dataclass(frozen=True)
class Part:
    """A piece of the mesh.

    Args:
        group: name of the part.
        points: [N, 3] dm.
        triangles: [M, 3] within the part; may name vertices of the skin as -1 - index.
        paint: [N, 3] coordinates for the painter; None for the points themselves.
        jaw: [N] share of the jaw's motion, 0 to 1; None for 0.
        parent: [N] vertex of the skin whose motion it copies, -1 or None for none.
    """

    group: str
    points: np.ndarray
    triangles: np.ndarray
    paint: np.ndarray | None = None
    jaw: np.ndarray | None = None
    parent: np.ndarray | None = None


def strips(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles [M, 3] of a grid of rows x columns vertices; `closed` joins the last column to the first."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    quads = np.stack([np.stack([a, b, b + columns], -1), np.stack([a, b + columns, a + columns], -1)], 2)
    return quads.reshape(-1, 3)


def lid_rims(shell: Shell) -> list[Part]:
    """The thickness of the lids, from their edge to the eyeball."""
    parts = []
    for edge in shell.eye_edges:
        count = len(edge)
        ring, following = np.arange(count), (np.arange(count) + 1) % count
        outer, outer_next = -1 - edge, -1 - edge[following]
        triangles = np.concatenate(
            [np.stack([ring, following, outer_next], -1), np.stack([ring, outer_next, outer], -1)]
        )
        parts.append(Part("lids", eye_rim(shell.points[edge]), triangles, parent=edge))
    return parts


def inner_lips(shell: Shell) -> list[Part]:
    """The lips turned inwards, so that they stay thick when the mouth opens."""
    parts = []
    for edge, side in zip(shell.lip_edges, (1, -1)):
        base = shell.points[edge]
        taper = np.clip(1 - (base[:, 0] / np.abs(base[:, 0]).max()) ** 2, 0, 1)[:, None]
        rows = [
            base + taper * np.array([0, side * rise, -0.01]) + np.array([0, 0, -depth])
            for rise, depth in ((0.012, 0.02), (0.035, 0.05), (0.07, 0.09))
        ]
        count = len(edge)
        along, following = np.arange(count - 1), np.arange(1, count)
        first = np.concatenate(
            [np.stack([along, following, -1 - edge[1:]], -1), np.stack([along, -1 - edge[1:], -1 - edge[:-1]], -1)]
        )
        paint = np.concatenate(
            [np.stack([base[:, 0], np.full(count, depth), np.full(count, side)], -1) for depth in (0.25, 0.6, 1.0)]
        )
        triangles = np.concatenate([first, strips(3, count)])
        parts.append(Part("mouth", np.concatenate(rows), triangles, paint, parent=np.tile(edge, 3)))
    return parts


def mouth_cavity(lip_depth: float) -> Part:
    """A dark bowl behind the lips, whose z is `lip_depth` (dm); its lower half moves with the jaw."""
    turn, height = np.meshgrid(np.linspace(-1.5, 1.5, 15), np.linspace(-1, 1, 13))
    turn, height = turn.ravel(), height.ravel()
    bowl = np.sqrt(np.clip(1 - height**2, 0, 1))
    points = np.stack(
        [
            0.27 * np.sin(turn),
            MOUTH_HEIGHT + 0.13 * height,
            lip_depth - 0.12 - 0.33 * np.cos(turn) * bowl - 0.06 * (1 - np.cos(turn)),
        ],
        axis=-1,
    )
    jaw = np.clip((0.4 - height) / 0.8, 0, 1)
    paint = np.stack([points[:, 0], np.full(len(points), 2.0), height], axis=-1)
    return Part("mouth", points, strips(13, 15), paint, jaw * jaw * (3 - 2 * jaw))


def teeth(lip_depth: float) -> list[Part]:
    """The upper arch, fixed to the skull, and the lower one, fixed to the jaw; the lips are at z = `lip_depth` (dm)."""
    turn = np.linspace(-1.25, 1.25, 29)
    parts = []
    for upper, top, bottom, width, back in ((True, -0.32, -0.446, 0.205, 0.035), (False, -0.418, -0.54, 0.190, 0.055)):
        rows = []
        for height in np.linspace(top, bottom, 4):
            depth = lip_depth - back - 0.24 * (1 - np.cos(turn))
            rows.append(np.stack([width * np.sin(turn), np.full_like(turn, height), depth], axis=-1))
        points = np.concatenate(rows)
        share = np.repeat(np.linspace(0, 1, 4), len(turn))
        row = np.full(len(points), 1.0 if upper else -1.0)
        paint = np.stack([np.tile(turn, 4), share if upper else 1 - share, row], axis=-1)
        parts.append(Part("teeth", points, strips(4, len(turn)), paint, np.full(len(points), 0.0 if upper else 1.0)))
    return parts


def tongue(lip_depth: float) -> Part:
    """A rounded body on the floor of the mouth, behind the lips at z = `lip_depth` (dm)."""
    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 20, endpoint=False), np.linspace(0, np.pi / 2, 7))
    turn, rise = turn.ravel(), rise.ravel()
    points = np.stack(
        [
            0.150 * np.cos(turn) * np.cos(rise),
            MOUTH_HEIGHT - 0.105 + 0.075 * np.sin(rise),
            lip_depth - 0.29 + 0.20 * np.sin(turn) * np.cos(rise),
        ],
        axis=-1,
    )
    return Part("tongue", points, strips(7, 20, closed=True), jaw=np.ones(len(points)))


def eyeballs() -> list[Part]:
    """The front of the two eyeballs; painted by directions from their centres."""
    rise = np.linspace(0.02, 1.75, _EYE_RINGS)
    spokes = np.linspace(0, 2 * np.pi, _EYE_SPOKES, endpoint=False)
    rises, turns = (grid.ravel() for grid in np.meshgrid(rise, spokes, indexing="ij"))
    direction = np.stack([np.sin(rises) * np.cos(turns), np.sin(rises) * np.sin(turns), np.cos(rises)], axis=-1)
    cap = np.stack([np.zeros(_EYE_SPOKES - 2, int), np.arange(1, _EYE_SPOKES - 1), np.arange(2, _EYE_SPOKES)], -1)
    triangles = np.concatenate([strips(_EYE_RINGS, _EYE_SPOKES, closed=True)[:, ::-1], cap])
    return [
        Part("eyeballs", EYE_CENTRE * np.array([side, 1, 1]) + EYE_RADIUS * direction, triangles, direction)
        for side in (1, -1)
    ]


def ears() -> list[Part]:
    """Two shells with a raised rim and a hollow; painted by (back, up, height of the relief)."""
    share = np.array([0.0, 0.18, 0.34, 0.5, 0.63, 0.74, 0.84, 0.93, 1.0, 0.96, 0.6])
    height = np.array([-0.040, -0.040, -0.034, -0.006, 0.006, 0.000, 0.022, 0.030, 0.012, -0.030, -0.075])
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    outline = 0.5 + 0.5 * np.sin(turn)  # 0 at the lobe, 1 at the top
    back = np.cos(turn) * (0.115 + 0.070 * outline) + 0.115
    up = np.sin(turn) * 0.275
    local = np.concatenate(
        [np.stack([0.10 + (back - 0.10) * s, up * s + 0.01, np.full_like(turn, h)], -1) for s, h in zip(share, height)]
    )
    flare, lean = 0.42, 0.16
    back, up = local[:, 0] + lean * local[:, 1] * 0.6, local[:, 1]
    points = EAR_PIVOT + np.stack(
        [
            back * np.sin(flare) + local[:, 2] * np.cos(flare) + 0.01,
            up,
            -back * np.cos(flare) + local[:, 2] * np.sin(flare),
        ],
        axis=-1,
    )
    triangles = strips(len(share), len(turn), closed=True)
    return [
        Part("ears", points * np.array([side, 1, 1]), triangles if side < 0 else triangles[:, ::-1], local)
        for side in (1, -1)
    ]


def neck() -> Part:
    """A tube from inside the head to inside the clothes."""
    share = np.linspace(0, 1, 16)
    height = -0.48 - 1.37 * share
    width = PchipInterpolator([0, 0.3, 0.5, 0.75, 1], [0.46, 0.455, 0.47, 0.55, 0.72])(share)
    depth = PchipInterpolator([0, 0.3, 0.5, 0.75, 1], [0.42, 0.43, 0.45, 0.50, 0.60])(share)
    centre = PchipInterpolator([0, 0.5, 1], [-0.50, -0.54, -0.68])(share)
    points, triangles = _tube(height, width, depth, centre, 40)
    behind = np.clip(np.repeat(centre, 40) - points[:, 2], 0, None) / np.repeat(depth, 40)
    points[:, 1] += 0.42 * behind * np.repeat(np.clip(1 - share / 0.6, 0, 1), 40)  # up to the nape
    return Part("neck", points, triangles)


def shoulders() -> Part:
    """From the neck over the shoulders down the chest."""
    height = np.array([-1.16, -1.24, -1.34, -1.44, -1.56, -1.70, -1.88, -2.12, -2.50, -3.00, -3.60, -4.40])
    width = np.array([0.50, 0.57, 0.72, 0.95, 1.24, 1.54, 1.80, 1.97, 2.04, 2.03, 2.00, 2.00])
    depth = np.array([0.50, 0.54, 0.58, 0.62, 0.66, 0.70, 0.76, 0.84, 0.90, 0.92, 0.92, 0.90])
    centre = np.array([-0.58, -0.58, -0.59, -0.60, -0.61, -0.62, -0.63, -0.63, -0.62, -0.60, -0.60, -0.60])
    points, triangles = _tube(height, width, depth, centre, 64)
    front = np.clip((points[:, 2] - np.repeat(centre, 64)) / np.repeat(depth, 64), -1, 1)
    points[:, 1] -= 0.20 * (front * 0.5 + 0.5) * np.clip((points[:, 1] + 3.5) / 2, 0, 1)
    return Part("shoulders", points, triangles)


def _tube(
    height: np.ndarray, width: np.ndarray, depth: np.ndarray, centre: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points and triangles of rings of half width and half depth at heights, with their middles at z = centre."""
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    points = np.stack(
        [
            width[:, None] * np.sin(turn),
            np.broadcast_to(height[:, None], (len(height), columns)),
            centre[:, None] + depth[:, None] * np.cos(turn),
        ],
        axis=-1,
    )
    return points.reshape(-1, 3).copy(), strips(len(height), columns, closed=True)[:, ::-1]
