"""Pictures of the upper teeth and of the lower ones with the tongue, drawn once, in the measures of a mean mouth.

They are drawn finely and blurred by the size of a pixel of the frame: lines thinner than a pixel fade.
"""

import numpy as np

from modules.rig.filters import blur, smoothstep

HALF_WIDTH, ABOVE, BELOW = 0.32, 0.2, 0.12  # dm from the edge of the middle teeth to the borders of a picture
TEXEL = 0.0025  # dm
PICTURE_ROWS = round((ABOVE + BELOW) / TEXEL)
PIXELS = (0.0025, 0.005, 0.01, 0.02)  # dm a pixel of the frame, for each of which there is a picture

# Mean widths of central and lateral incisor, canine and two premolars, and heights of their crowns, dm: Wheeler's
# Dental Anatomy, Physiology and Occlusion, rounded.
_UPPER_WIDTHS, _UPPER_HEIGHTS = (0.085, 0.065, 0.075, 0.07, 0.07), (0.105, 0.09, 0.1, 0.085, 0.085)
_LOWER_WIDTHS, _LOWER_HEIGHTS = (0.05, 0.055, 0.07, 0.07, 0.07), (0.09, 0.095, 0.11, 0.085, 0.085)
_SHORTER = (0.0, 0.008, 0.0, 0.006, 0.008)  # dm by which the edges of upper teeth end above the middle ones'
_BLUR = 0.8  # pixels of the frame, deviation of the Gaussian
_UPPER_ARCH, _LOWER_ARCH = 0.26, 0.225  # dm, radii of the arches: canines lie 34 mm and 26 mm apart
_CREST = 0.13  # dm above the edge of the lower teeth, the top of the tongue
_LOWER_LIGHT = 0.92  # of the upper teeth's
_TONGUE = 0.17  # dm, half its width


def picture_of(teeth: np.ndarray, gums: np.ndarray, tongue: np.ndarray) -> np.ndarray:
    """Both rows, the upper one above the lower one, in one picture for each of `PIXELS`.

    Args:
        teeth, gums, tongue: [3] colours in [0, 1].
    Returns:
        [len(PIXELS), 2 * `PICTURE_ROWS`, W, 4] float32, colours times cover, and cover.
    """
    whole = [upper_teeth(teeth, gums), lower_teeth(teeth, gums, tongue)]
    levels = [[blur(part, _BLUR * pixel / TEXEL) for part in whole] for pixel in PIXELS]
    return np.stack([np.concatenate(level) for level in levels]).astype(np.float32)


def upper_teeth(teeth: np.ndarray, gums: np.ndarray) -> np.ndarray:
    """The upper row under its gums.

    Args:
        teeth, gums: [3] colours in [0, 1].
    Returns:
        [`PICTURE_ROWS`, W, 4], colours times cover, and cover.
    """
    x, y = _grid()
    angle, tooth, across = _row(x, _UPPER_WIDTHS, _UPPER_ARCH)
    edge = np.take(_SHORTER, tooth) + 0.03 * (1 - np.cos(angle)) + _rounding(tooth, across)
    top = np.take(_UPPER_HEIGHTS, tooth) - 0.03 * across**4
    colours = _lit(teeth, gums, tooth, across, (y - edge) / 0.1, _step(y - top))
    cover = _step(y - edge) * (np.abs(x) < _UPPER_ARCH)
    return _covering(colours * np.cos(angle)[..., None], cover)


def lower_teeth(teeth: np.ndarray, gums: np.ndarray, tongue: np.ndarray) -> np.ndarray:
    """The lower row over its gums, and behind it the tongue.

    Args:
        teeth, gums, tongue: [3] colours in [0, 1].
    Returns:
        As `upper_teeth`.
    """
    x, y = _grid()
    angle, tooth, across = _row(x, _LOWER_WIDTHS, _LOWER_ARCH)
    arch = 0.07 * (1 - np.cos(angle))  # seen from above its sides lie higher
    edge = arch - _rounding(tooth, across)
    bottom = edge - np.take(_LOWER_HEIGHTS, tooth) + 0.02 * across**4
    colours = _lit(teeth, gums, tooth, across, (edge - y) / 0.1, _step(bottom - y))
    colours = colours * (_LOWER_LIGHT * np.cos(angle))[..., None]
    cover = _step(edge - y) * (np.abs(x) < _LOWER_ARCH)
    side = np.clip(1 - (x / _TONGUE) ** 2, 0, 1)
    crest = _CREST * np.sqrt(side)
    behind = smoothstep((crest - y) / 0.07) * smoothstep(side / 0.4)
    light = (0.55 + 0.3 * smoothstep((y - arch) / 0.08)) * (0.75 + 0.25 * side)
    whole = cover + (1 - cover) * behind
    share = (cover / np.maximum(whole, 1e-6))[..., None]
    return _covering(share * colours + (1 - share) * light[..., None] * tongue, whole)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Places [H, W] of the texels, dm across and up."""
    columns = np.arange(round(2 * HALF_WIDTH / TEXEL)) + 0.5
    rows = np.arange(PICTURE_ROWS) + 0.5
    return np.meshgrid(columns * TEXEL - HALF_WIDTH, ABOVE - rows * TEXEL)


def _row(x: np.ndarray, widths: tuple[float, ...], radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angle on the arch, number of the tooth from the middle on, and place on it in [-1, 1], each [H, W]."""
    angle = np.arcsin(np.clip(x / radius, -1, 1))
    ends = np.cumsum(widths)
    along = np.minimum(np.abs(angle) * radius, ends[-1] - 1e-6)
    tooth = np.searchsorted(ends, along, side="right")
    middle = ends[tooth] - np.take(widths, tooth) / 2
    return angle, tooth, (along - middle) / np.take(widths, tooth) * 2


def _rounding(tooth: np.ndarray, across: np.ndarray) -> np.ndarray:
    """How far, dm, the edge of a tooth is drawn back: corners are round, canines pointed."""
    return np.where(tooth == 2, 0.014 * np.abs(across) ** 1.5, 0.012 * across**6)


def _lit(
    teeth: np.ndarray, gums: np.ndarray, tooth: np.ndarray, across: np.ndarray, along: np.ndarray, gum: np.ndarray
) -> np.ndarray:
    """Colours [H, W, 3] of rounded teeth with dark lines between them; `along`: 0 at the edge, 1 at the gum."""
    round_off = 1 - 0.12 * across**4 - 0.25 * smoothstep((np.abs(across) - 0.8) / 0.2)
    light = round_off * (1 - 0.08 * smoothstep(1 - along / 0.3) - 0.1 * smoothstep(along))
    warm = np.array([1.0, 0.96, 0.88])  # towards the gum, and canines
    warmth = np.clip(0.6 * smoothstep(along) + 0.5 * (tooth == 2), 0, 1)[..., None]
    colours = teeth * light[..., None] * (1 - warmth + warmth * warm)
    return colours + gum[..., None] * (gums - colours)


def _step(x: np.ndarray) -> np.ndarray:
    """0 to 1 over a texel around x = 0."""
    return np.clip(x / TEXEL + 0.5, 0, 1)


def _covering(colours: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """[H, W, 4], colours times cover, and cover."""
    return np.concatenate([colours * cover[..., None], cover[..., None]], axis=2)
