"""The person cut out of the photo: alpha with the picture's own edges, and colours free of the background."""

import cv2
import numpy as np

from modules.rig.config import REFERENCE
from modules.rig.filters import blur, fill, grow, resized, shrink, smoothstep

_BOX = 13  # pixels at REFERENCE, of the guided filter
_APART = 0.7  # probability up to which parts of a person do not hang together
_REACH = 20  # pixels at REFERENCE from what is surely the person, within which it may be half seen


def with_face(person: np.ndarray, face: np.ndarray) -> np.ndarray:
    """What hangs together with the face, of probabilities [N, N] of a person; 0 elsewhere.

    In a painting or in a crowd other things look like a person too, and would move with the shoulders.

    Args:
        face: [N, N] bool, where the face is.
    """
    _, labels = cv2.connectedComponents((person > _APART).astype(np.uint8))
    own = np.unique(labels[face & (labels > 0)])
    near = grow(np.isin(labels, own), 2 * _REACH + 1)  # the soft outline too
    return np.where(near, person, 0).astype(np.float32)


def matte(picture: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Probability of a person -> alpha, by a guided filter: where the picture has an edge, alpha has it there.

    The filter's coefficients are computed at `REFERENCE` pixels and applied to the picture as it is.

    Args:
        picture: [S, S, 3] uint8.
        person: [REFERENCE, REFERENCE] in [0, 1].
    Returns:
        [S, S] float32 in [0, 1].
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    small = resized(grey, REFERENCE)
    mean_grey, mean_person = _box(small), _box(person)
    slope = (_box(small * person) - mean_grey * mean_person) / (_box(small * small) - mean_grey**2 + 1e-4)
    offset = mean_person - slope * mean_grey
    size = len(picture)
    alpha = np.clip(resized(_box(slope), size) * grey + resized(_box(offset), size), 0, 1)
    alpha = np.where(resized(person, size) > 0.97, np.maximum(alpha, 0.98), alpha)
    alpha = smoothstep((alpha - 0.1) / 0.8)
    near = blur(grow(resized(alpha, REFERENCE) > 0.9, 2 * _REACH + 1), 5)  # no smoke far from the person
    return (alpha * resized(near, size)).astype(np.float32)


def _box(values: np.ndarray) -> np.ndarray:
    return cv2.blur(np.asarray(values, np.float32), (_BOX, _BOX))


def foreground(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person's colours, continued outwards from where the person is sure, so that no fringe of background remains.

    Args:
        picture: [S, S, 3] uint8; alpha: [S, S].
    Returns:
        [S, S, 3] float32, 0 to 255.
    """
    small = resized(picture, REFERENCE)
    outwards = fill(small, shrink(resized(alpha, REFERENCE) > 0.95, 3))
    mix = smoothstep((alpha - 0.5) / 0.4)[..., None]
    return (mix * picture + (1 - mix) * resized(outwards, len(picture))).astype(np.float32)


def person_texture(colours: np.ndarray, alpha: np.ndarray, margin: int) -> np.ndarray:
    """Colours and alpha with `margin` pixels more on each side, where the person is mirrored and fades.

    Below the photo the person does not fade: bodies go on.

    Args:
        colours: [S, S, 3] float32, 0 to 255; alpha: [S, S].
    Returns:
        [S + 2 margin, S + 2 margin, 4] float32 in [0, 1].
    """
    sides = (margin,) * 4
    wide = cv2.copyMakeBorder(colours, *sides, cv2.BORDER_REFLECT_101) / 255
    cover = cv2.copyMakeBorder(alpha, *sides, cv2.BORDER_REPLICATE)
    ramp = smoothstep(np.arange(margin) / max(margin, 1) * 3).astype(np.float32)
    cover[:margin] *= ramp[:, None]
    cover[:, :margin] *= ramp
    cover[:, len(cover) - margin :] *= ramp[::-1]
    return np.ascontiguousarray(np.dstack([wide, cover]), np.float32)
