"""A baseline that knows no face model: the photo's head, cut out, moved by a 2-D similarity over what is behind it."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from modules.analysis.inpainting import inpaint_background, inpaint_torso
from modules.analysis.segmentation import shows_part
from modules.analysis.similarity import fit_similarity
from modules.face3d.landmark_sets import EYES, FACE_OVAL

STEADY = sorted({*EYES, *FACE_OVAL[:9], *FACE_OVAL[-9:], 168, 6, 197, 195})  # move with the skull, not with the jaw
FEATHER = 6  # pixels over which the edge of the head fades, of a picture of 512


def moved_frames(
    picture: np.ndarray, classes: np.ndarray, landmarks: np.ndarray, tracks: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """The photo with its head moved as the tracks move from their first frame.

    Args:
        picture: [S, S, 3] uint8; `classes` [S, S]; `landmarks` [478, 2] fractions.
        tracks: landmarks of the driving frames, fractions; NaN without a face: the head stays where it was.
    Yields:
        [S, S, 3] uint8; the first is the photo but for its edge.
    """
    size = len(picture)
    head = shows_part(classes, "head")
    torso, shown = inpaint_torso(picture, classes)
    behind = np.where((shown & ~(classes == 0))[..., None], torso, inpaint_background(picture[None], classes[None]))
    behind = np.where((head | (shown & (classes == 0)))[..., None], behind, picture)
    edge = cv2.GaussianBlur(head.astype(np.float32), (0, 0), FEATHER * size / 1024)
    first = to_face = None
    matrix = np.eye(3)
    for track in tracks:
        points = track[STEADY] * size
        if np.isfinite(points).all():
            if first is None:
                first, to_face = points, fit_similarity(points, landmarks[STEADY] * size)  # driver's place to photo's
            matrix = to_face @ fit_similarity(first, points) @ np.linalg.inv(to_face)
        warped = cv2.warpAffine(picture, matrix[:2], (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        alpha = cv2.warpAffine(edge, matrix[:2], (size, size), flags=cv2.INTER_LINEAR)[..., None]
        left, top, width, height = cv2.boundingRect((alpha > 0).astype(np.uint8))
        part = np.s_[top : top + height, left : left + width]
        share, frame = alpha[part], behind.copy()
        frame[part] = np.rint(share * warped[part] + (1 - share) * behind[part]).clip(0, 255).astype(np.uint8)
        yield frame
