"""The background plate: what the person of the photo hides, from what is seen beside and above."""

import cv2
import numpy as np

from modules.rig.config import REFERENCE
from modules.rig.filters import blur, fill, grow, resized, shrink, smoothstep

_SMOOTH = 25.0  # pixels at REFERENCE: where mirrored pixels are farther than this the smooth filling counts more
_GUARD = 11  # pixels at REFERENCE, of the square around a pixel of the person that is not trusted: stray hair
_REACH = 120.0  # pixels at REFERENCE beyond which nothing is mirrored
_NEVER = 1e4


def background_plate(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The scene without the person: mirrored sideways and upwards at the outline, fading into a smooth filling.

    Args:
        picture: [S, S, 3] uint8; alpha: [S, S], of the person.
    Returns:
        [S, S, 3] float32, 0 to 255; the mean colour where the person hides everything.
    """
    small = resized(picture, REFERENCE)
    known = ~grow(resized(alpha, REFERENCE) > 0.02, _GUARD)
    if not known.any():
        return np.broadcast_to(small.mean((0, 1)), picture.shape).astype(np.float32)
    hidden = _hidden(small, known)
    share = resized(known.astype(np.float32), len(picture))[..., None]
    return (share * picture + (1 - share) * resized(hidden, len(picture))).astype(np.float32)


def _hidden(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The filling at `REFERENCE`; equal to the picture where known."""
    y, x = np.indices(known.shape, dtype=np.float32)
    left = x - np.maximum.accumulate(np.where(known, x, -_NEVER), 1)  # distances to what is known
    right = np.minimum.accumulate(np.where(known, x, _NEVER)[:, ::-1], 1)[:, ::-1] - x
    up = y - np.maximum.accumulate(np.where(known, y, -_NEVER), 0)
    total = fill(picture, known) / _SMOOTH**2
    weight = np.full((*known.shape, 1), 1 / _SMOOTH**2, np.float32)
    source = np.dstack([picture, 255 * known]).astype(np.float32)
    for distance, u, v in ((left, x - 2 * left, y), (right, x + 2 * right, y), (1.5 * up, x, y - 2 * up)):
        seen = cv2.remap(source, np.float32(u), np.float32(v), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        whole = blur(shrink(seen[..., 3] > 250, 9), 3)
        share = (whole / (distance + 2) ** 2 * smoothstep(2 - distance * 2 / _REACH))[..., None]
        total, weight = total + share * seen[..., :3], weight + share
    return np.where(known[..., None], picture, total / weight).astype(np.float32)
