"""Hair as a surface over the skull, one grid for all styles: its thickness, and the height of its hem."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from modules.procedural.template import ARC_LENGTH, Surface, loft, outward

COLUMNS = 72
ROWS = 30
_FREE_FALL = 0.12  # dm; below this height hair hangs straight down
_HEAD_DROP = ARC_LENGTH - float(Surface.of_front(np.zeros(1), np.array([_FREE_FALL])).arc[0])


@dataclass(frozen=True, kw_only=True)
class HairStyle:
    """A hair cut: heights of the hem (dm) at angles from the front (degrees), thicknesses in dm."""

    name: str
    angles: tuple[float, ...] = (0, 28, 48, 64, 80, 98, 118, 140, 180)
    hem: tuple[float, ...] = (0.78, 0.77, 0.62, 0.42, 0.12, 0.14, -0.20, -0.38, -0.42)
    top: float = 0.12
    side: float = 0.05
    back: float = 0.09
    fringe: float = 0.0  # how much the front rises at the hair line before it lies back
    ends: float = 0.0  # thickness left at the hem, share
    wave: float = 0.0  # dm of waviness
    part: float = 0.0  # angle of the parting, degrees; 0 for none
    sweep: float = 0.0  # how much the strands lean sideways
    bun: float = 0.0  # radius of a knot on top, dm

    def hem_heights(self, degrees: np.ndarray) -> np.ndarray:
        """Height of the hem, [N] dm, at angles [N] from the front, 0 to 180 degrees."""
        return PchipInterpolator(self.angles, self.hem)(degrees)

    @property
    def hairless(self) -> bool:
        """True for the style without hair."""
        return self.top <= 0


# fmt: off
STYLES = (
    HairStyle(name="short", hem=(0.83, 0.80, 0.72, 0.45, 0.12, 0.14, -0.20, -0.38, -0.42), fringe=0.75, sweep=0.9),
    HairStyle(name="crop", hem=(0.86, 0.86, 0.74, 0.46, 0.12, 0.14, -0.20, -0.38, -0.42), top=0.055, side=0.025,
              back=0.04, fringe=0.3, sweep=0.4),
    HairStyle(name="quiff", hem=(0.88, 0.84, 0.74, 0.46, 0.12, 0.14, -0.20, -0.38, -0.42), top=0.20, side=0.035,
              fringe=0.9, sweep=-0.6),
    HairStyle(name="curly", hem=(0.74, 0.73, 0.58, 0.40, 0.10, 0.05, -0.20, -0.38, -0.42), top=0.26, side=0.19,
              back=0.22, fringe=0.7, ends=0.4, wave=0.035),
    HairStyle(name="bob", angles=(0, 30, 44, 54, 64, 80, 98, 140, 180),
              hem=(0.77, 0.72, 0.50, -0.10, -0.55, -0.66, -0.70, -0.70, -0.70), top=0.12, side=0.17, back=0.16,
              fringe=0.4, ends=0.7, part=16),
    HairStyle(name="bangs", angles=(0, 30, 42, 54, 64, 80, 98, 140, 180),
              hem=(0.50, 0.49, 0.40, -0.20, -0.60, -0.72, -0.75, -0.75, -0.75), top=0.13, side=0.18, back=0.16,
              fringe=0.5, ends=0.75),
    HairStyle(name="long", angles=(0, 28, 44, 56, 66, 80, 98, 140, 180),
              hem=(0.78, 0.73, 0.52, -0.30, -1.20, -1.45, -1.55, -1.60, -1.60), top=0.12, side=0.17, back=0.18,
              fringe=0.4, ends=0.8, part=-14),
    HairStyle(name="wavy", angles=(0, 28, 44, 56, 66, 80, 98, 140, 180),
              hem=(0.77, 0.73, 0.50, -0.30, -1.00, -1.25, -1.35, -1.40, -1.40), top=0.15, side=0.21, back=0.22,
              fringe=0.5, ends=0.8, wave=0.045, part=12),
    HairStyle(name="bun", top=0.06, side=0.035, back=0.05, fringe=0.1, bun=0.30),
    HairStyle(name="receding", angles=(0, 22, 40, 56, 80, 98, 118, 140, 180),
              hem=(0.96, 1.06, 1.02, 0.62, 0.12, 0.14, -0.20, -0.38, -0.42), top=0.05, side=0.035, back=0.05),
    HairStyle(name="bald", top=-0.06, side=-0.06, back=-0.06),
)
# fmt: on


def hair_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angle around the head (radians) and fraction (0 crown, 1 hem) of each vertex, [N] each, and triangles [M, 3]."""
    angle = np.linspace(-np.pi, np.pi, COLUMNS, endpoint=False)
    share = np.linspace(0, 1, ROWS)
    shares, angles = np.meshgrid(share, angle, indexing="ij")
    row, column = np.meshgrid(np.arange(ROWS - 1), np.arange(COLUMNS), indexing="ij")
    a = row * COLUMNS + column
    b = row * COLUMNS + (column + 1) % COLUMNS
    triangles = np.stack([np.stack([a, a + COLUMNS, b + COLUMNS], -1), np.stack([a, b + COLUMNS, b], -1)], 2)
    return angles.ravel(), shares.ravel(), triangles.reshape(-1, 3)


def hair_points(style: HairStyle, length: float = 1.0, volume: float = 1.0) -> np.ndarray:
    """The hair of a style over the average head.

    Args:
        style: the cut.
        length: scales how far the hem hangs below the ears (long styles).
        volume: scales how far the hair stands off.
    Returns:
        [ROWS * COLUMNS, 3] dm, vertices as in `hair_grid`.
    """
    angle, share, _ = hair_grid()
    degrees = np.abs(np.rad2deg(angle))
    hem = style.hem_heights(degrees)
    hem = np.where(hem < -0.45, -0.45 + (hem + 0.45) * length, hem)
    arc_hem = Surface.of_front(np.zeros_like(hem), np.maximum(hem, _FREE_FALL)).arc
    on_head = np.minimum(ARC_LENGTH - arc_hem, _HEAD_DROP)
    below = np.maximum(_FREE_FALL - hem, 0)
    way = share * (on_head + below)
    surface = Surface(angle, np.clip(ARC_LENGTH - np.minimum(way, on_head), 0, ARC_LENGTH - 0.004))
    points, normal = loft(surface), outward(surface)
    hanging = np.maximum(way - on_head, 0)
    short = style.ends == 0
    if short:  # follow the skull down to the nape
        inner = Surface(angle, np.clip(ARC_LENGTH - way, 0, ARC_LENGTH - 0.004))
        points, normal = loft(inner), outward(inner)
    else:
        points[:, 1] -= hanging
    stand = _thickness(style, degrees, share) * volume
    stand += style.wave * np.sin(9 * way + 7 * angle + 2 * np.sin(3 * angle)) * np.clip(way, 0, 1) * (style.wave > 0)
    if style.part:
        stand -= 0.05 * np.exp(-(((np.rad2deg(angle) - style.part) / 9) ** 2)) * np.exp(-((share / 0.9) ** 4))
    points = points + normal * stand[:, None]
    inward = 1 - 0.10 * np.clip(hanging, 0, 1)
    points[:, 0] *= inward
    return points + _knot(style, points)


def _thickness(style: HairStyle, degrees: np.ndarray, share: np.ndarray) -> np.ndarray:
    around = style.side + (style.back - style.side) * np.clip((degrees - 90) / 50, 0, 1)
    front = np.exp(-((degrees / 45) ** 4))
    lower = around + (style.top - around) * np.maximum(front * style.fringe, np.clip(1 - share / 0.75, 0, 1))
    edge = np.clip((1 - share) / (0.10 + 0.25 * (1 - style.fringe)), 0, 1)
    return lower * (style.ends + (1 - style.ends) * edge * (2 - edge)) if style.top > 0 else lower


def _knot(style: HairStyle, points: np.ndarray) -> np.ndarray:
    if not style.bun:
        return np.zeros_like(points)
    centre = np.array([0, 1.28, -0.85])
    away = points - centre
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    pull = np.exp(-((distance / (1.1 * style.bun)) ** 4))
    return pull * (away / np.maximum(distance, 1e-6) * style.bun + np.array([0, 0.10, -0.08]))
