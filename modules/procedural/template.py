"""The skin of the average head as a surface over two parameters, from anthropometric numbers.

Horizontal sections of the head are pairs of half ellipses; their half width, front, widest point and back are curves
over the height (`_SECTIONS`). The face is a relief on the front of that loft: sockets, nose, cheekbones, lips and
chin are sums of smooth bumps over the frontal coordinates (x, y). Units: decimetres, x to the right of a frontal
picture, y up, z towards the viewer; the origin lies behind the nose.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

EYE_CENTRE = np.array([0.315, 0.262, 0.255])  # of the (right in the picture) eyeball
EYE_RADIUS = 0.150
EYE_HALF_WIDTH = 0.140
LID_GAP = 0.016  # between eyeball and lids
LID_RISE = 0.057  # of the upper lid over the eye's centre
LID_DROP = 0.042  # of the lower lid below it
MOUTH_HALF_WIDTH = 0.248
MOUTH_HEIGHT = -0.428

# height, half width, front, widest point, back; from under the chin to the crown
_SECTIONS = np.array(
    [
        [-0.975, 0.000, 0.345, 0.325, 0.30],
        [-0.955, 0.130, 0.440, 0.310, 0.22],
        [-0.890, 0.275, 0.500, 0.255, 0.10],
        [-0.780, 0.395, 0.525, 0.165, -0.03],
        [-0.650, 0.510, 0.520, 0.050, -0.24],
        [-0.500, 0.595, 0.525, -0.060, -0.52],
        [-0.300, 0.655, 0.535, -0.150, -0.85],
        [-0.100, 0.700, 0.530, -0.210, -1.03],
        [0.100, 0.732, 0.515, -0.250, -1.15],
        [0.300, 0.752, 0.515, -0.270, -1.25],
        [0.500, 0.760, 0.528, -0.300, -1.30],
        [0.700, 0.747, 0.500, -0.350, -1.30],
        [0.900, 0.690, 0.415, -0.400, -1.24],
        [1.080, 0.580, 0.270, -0.430, -1.10],
        [1.220, 0.415, 0.070, -0.450, -0.90],
        [1.300, 0.230, -0.150, -0.450, -0.70],
        [1.335, 0.000, -0.440, -0.450, -0.46],
    ]
)
_ARC = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(_SECTIONS[:, 0]), np.diff(_SECTIONS[:, 1])))])
_LOFT = PchipInterpolator(_ARC, _SECTIONS)
_DENSE_ARC = np.linspace(0, _ARC[-1], 4001)
_DENSE_HEIGHT = _LOFT(_DENSE_ARC)[:, 0]
ARC_LENGTH = float(_ARC[-1])

# relief: x, y, width, height of a bump and how far it stands out; bumps with x > 0 come in pairs
_BUMPS = (
    (0.300, 0.265, 0.170, 0.105, -0.085),  # eye sockets
    (0.135, 0.285, 0.060, 0.095, -0.060),  # beside the nasal bridge
    (0.260, 0.445, 0.190, 0.055, 0.034),  # brow ridge
    (0.000, 0.470, 0.120, 0.070, 0.014),  # glabella
    (0.000, 0.760, 0.330, 0.160, 0.020),  # forehead
    (0.470, 0.050, 0.150, 0.120, 0.052),  # cheekbones
    (0.280, -0.060, 0.100, 0.140, 0.012),  # front of the cheeks
    (0.470, -0.360, 0.130, 0.150, -0.022),  # hollow of the cheeks
    (0.215, -0.245, 0.035, 0.090, -0.013),  # beside the mouth and nose: nasolabial fold
    (0.000, -0.400, 0.270, 0.180, 0.045),  # the dental arch behind the lips
    (0.000, -0.275, 0.026, 0.060, -0.014),  # philtrum
    (0.048, -0.275, 0.024, 0.060, 0.010),  # its ridges
    (0.275, -0.440, 0.040, 0.050, -0.020),  # corners of the mouth
    (0.000, -0.610, 0.170, 0.042, -0.034),  # below the lower lip
    (0.000, -0.790, 0.150, 0.095, 0.050),  # chin
    (0.125, -0.105, 0.046, 0.056, 0.105),  # wings of the nose
    (0.000, -0.060, 0.070, 0.062, 0.050),  # tip of the nose
    (0.062, -0.168, 0.026, 0.018, -0.030),  # nostrils
)
_NOSE_HEIGHTS = np.array([-0.225, -0.190, -0.150, -0.110, -0.060, 0.000, 0.100, 0.200, 0.290, 0.370, 0.450])
_NOSE = PchipInterpolator(_NOSE_HEIGHTS, [0, 0.020, 0.100, 0.165, 0.192, 0.178, 0.128, 0.082, 0.045, 0.014, 0])
_NOSE_WIDTH = PchipInterpolator([-0.23, -0.1, 0.0, 0.2, 0.45], [0.085, 0.075, 0.066, 0.060, 0.090])
_UPPER_LIP = PchipInterpolator([0, 0.15, 0.4, 0.7, 1.0, 1.35, 1.8], [-0.020, 0.008, 0.030, 0.033, 0.018, 0.004, 0])
_LOWER_LIP = PchipInterpolator([0, 0.15, 0.45, 0.75, 1.0, 1.35, 1.8], [-0.020, 0.014, 0.044, 0.040, 0.014, -0.004, 0])


@dataclass(frozen=True)
class Surface:
    """Points on the skin: angle [N] from the front (radians, x = width sin), arc [N] along the side contour (dm)."""

    angle: np.ndarray
    arc: np.ndarray

    @staticmethod
    def of_front(x: np.ndarray, y: np.ndarray) -> "Surface":
        """The points with frontal coordinates x, y [N] dm on the front half."""
        arc = np.interp(y, _DENSE_HEIGHT, _DENSE_ARC)
        width = np.maximum(_LOFT(arc)[..., 1], 1e-6)
        return Surface(np.arcsin(np.clip(x / width, -1, 1)), arc)


def bump(x: np.ndarray, y: np.ndarray, shape: tuple[float, float, float, float]) -> np.ndarray:
    """A Gaussian of shape (x, y, width, height) dm at x, y [N] -> [N]; a pair, left and right, unless its x is 0."""
    x0, y0, width, height = shape
    vertical = np.exp(-(((y - y0) / height) ** 2))
    right = np.exp(-(((x - x0) / width) ** 2))
    return vertical * (right if x0 == 0 else right + np.exp(-(((x + x0) / width) ** 2)))


def loft(surface: Surface) -> np.ndarray:
    """The head without relief: [N, 3] dm."""
    y, width, front, middle, back = np.moveaxis(_LOFT(surface.arc), -1, 0)
    cosine = np.cos(surface.angle)
    z = middle + np.where(cosine > 0, front - middle, middle - back) * cosine
    return np.stack([width * np.sin(surface.angle), y, z], axis=-1)


def outward(surface: Surface) -> np.ndarray:
    """Unit normals of the loft: [N, 3]."""
    step = 1e-4
    arc = np.clip(surface.arc, 0.01, ARC_LENGTH - 0.01)
    along = loft(Surface(surface.angle, arc + step)) - loft(Surface(surface.angle, arc - step))
    around = loft(Surface(surface.angle + step, arc)) - loft(Surface(surface.angle - step, arc))
    normal = np.cross(around, along)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def lip_line(x: np.ndarray) -> np.ndarray:
    """Height, [N] dm, of the line between the closed lips at x [N]."""
    return MOUTH_HEIGHT - 0.006 * np.clip(np.abs(x) / MOUTH_HALF_WIDTH, 0, 1) ** 2 - 0.004 * np.exp(-((x / 0.05) ** 2))


def lip_heights(x: np.ndarray, half_width: float = MOUTH_HALF_WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Heights, [N] dm each, of the red of the upper and of the lower lip at x [N]."""
    inside = np.clip(1 - (x / half_width) ** 2, 0, 1)
    bow = 0.007 * bump(x, np.zeros_like(x), (0.055, 0, 0.04, 1)) - 0.010 * np.exp(-((x / 0.028) ** 2))
    return (0.086 + bow) * inside**0.8, 0.104 * inside**0.62


def _lips(x: np.ndarray, y: np.ndarray, upper: np.ndarray) -> np.ndarray:
    high, low = lip_heights(x)
    taper = np.clip(1 - (x / (MOUTH_HALF_WIDTH + 0.03)) ** 2, 0, 1) ** 0.7
    above = (y - lip_line(x)) / np.maximum(high, 0.014)
    below = -(y - lip_line(x)) / np.maximum(low, 0.014)
    relief = np.where(upper, _UPPER_LIP(np.clip(above, 0, 1.8)), _LOWER_LIP(np.clip(below, 0, 1.8)))
    return relief * taper


def relief(x: np.ndarray, y: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """How far the face stands out of the loft.

    Args:
        x, y: [N] dm, frontal coordinates.
        upper: [N] bool, True for points of the upper lip and above it, so that points on the line have a lip.
    Returns:
        [N] dm.
    """
    height = sum(amount * bump(x, y, shape) for *shape, amount in _BUMPS)
    inside = (y > _NOSE_HEIGHTS[0]) & (y < _NOSE_HEIGHTS[-1])
    nose = np.where(inside, _NOSE(np.clip(y, _NOSE_HEIGHTS[0], _NOSE_HEIGHTS[-1])), 0)
    return height + nose * np.exp(-((x / _NOSE_WIDTH(np.clip(y, -0.23, 0.45))) ** 2)) + _lips(x, y, upper)


def over_eyes(points: np.ndarray) -> np.ndarray:
    """Lift the skin [N, 3] dm over the eyeballs -> [N, 3]: a smooth maximum of the face and a sphere around the eye."""
    offset = np.abs(points[:, 0]) - EYE_CENTRE[0], points[:, 1] - EYE_CENTRE[1]
    square = (EYE_RADIUS + LID_GAP) ** 2 - offset[0] ** 2 - offset[1] ** 2
    sphere = EYE_CENTRE[2] + np.sqrt(np.maximum(square, 0)) - 4 * np.maximum(-square, 0)
    difference = np.clip((sphere - points[:, 2]) / 0.035, -30, 30)
    lifted = points[:, 2] + 0.035 * np.log1p(np.exp(difference))
    fade = np.exp(-(((offset[0] / 0.20) ** 2 + (offset[1] / 0.16) ** 2) ** 3))
    result = points.copy()
    result[:, 2] = np.where(points[:, 2] > 0, points[:, 2] + fade * (lifted - points[:, 2]), points[:, 2])
    return result


def skin(surface: Surface, upper: np.ndarray) -> np.ndarray:
    """The average head: [N, 3] dm; `upper` [N] as in `relief`."""
    points = loft(surface)
    front = np.clip(np.cos(surface.angle) / 0.5, 0, 1)
    points[:, 2] += relief(points[:, 0], points[:, 1], upper) * front**2 * (3 - 2 * front)
    return over_eyes(points)


def eye_contour(angle: np.ndarray, distance: float) -> np.ndarray:
    """Points around the eye opening.

    Args:
        angle: [N] radians, 0 at the outer corner, a quarter turn at the top.
        distance: from the edge of the lids, dm.
    Returns:
        [N, 2] frontal coordinates of the eye at x > 0.
    """
    along, across = np.cos(angle), np.sin(angle)
    blend = min(distance / 0.08, 1.0)
    upper, lower = 1.25 - 0.25 * blend, 1.35 - 0.35 * blend
    rise = np.where(
        across >= 0, (LID_RISE + distance) * np.abs(across) ** upper, -(LID_DROP + distance) * np.abs(across) ** lower
    )
    skew = -0.006 * (1 - along**2) * (across > 0)  # the upper lid is highest towards the nose
    x = EYE_CENTRE[0] + (EYE_HALF_WIDTH + distance) * along + skew
    return np.stack([x, EYE_CENTRE[1] + rise + 0.010 * along], axis=-1)
