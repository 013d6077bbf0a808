"""Six classes for every pixel of the frames of a clip: as `segmentation.segment`, at a fraction of its time.

The network that finds hair takes four times as long as that which finds people, and hair moves with the head. So it
looks at each `HAIR_STEP`th frame; the frames between take what it found before and after, moved as the landmarks moved.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from modules.analysis.crop import Box, crop_picture
from modules.analysis.mediapipe_models import hair_confidence, person_confidence
from modules.analysis.segmentation import ANALYSIS_SIZE, classes_from_person_and_hair, has_multiclass_model, segment
from modules.analysis.similarity import fit_similarity

HAIR_STEP = 4  # frames from one look for hair to the next
Look = tuple[np.ndarray, np.ndarray]  # landmarks [478, 2] in fractions, probabilities of hair [H, W] uint8


def segment_clip(
    frames: Iterable[np.ndarray], box: Box, landmarks: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The square `box` of every frame, uint8 [size, size, 3], and its classes, uint8 [size, size] in 0..5.

    Holds `HAIR_STEP` frames. Classes are computed at `ANALYSIS_SIZE`, whatever `size` is.

    Args:
        frames: uint8 [H, W, 3] RGB, in order.
        box: a square in their pixels.
        landmarks: [T, 478, 2], fractions of the square.
        size: pixels a side of both results.
    Raises:
        UserError: a model file is missing.
    """
    for picture, classes in _with_classes((_crops(frame, box, size) for frame in frames), landmarks):
        yield picture, cv2.resize(classes, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


def _crops(frame: np.ndarray, box: Box, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The square of a frame at `size`, and as it is looked at."""
    picture = crop_picture(frame, box, size)
    return picture, picture if size == ANALYSIS_SIZE else crop_picture(frame, box, ANALYSIS_SIZE)


def _with_classes(
    crops: Iterable[tuple[np.ndarray, np.ndarray]], landmarks: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a picture and what is looked at -> pairs of that picture and the classes."""
    if has_multiclass_model():  # one network for all classes
        yield from ((picture, segment(seen, points)) for (picture, seen), points in zip(crops, landmarks))
        return
    before: Look | None = None
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, ((picture, seen), points) in enumerate(zip(crops, landmarks)):
        waiting.append((picture, seen, points))
        if number % HAIR_STEP == 0:
            before = yield from _classified(waiting, before)
            waiting = []
    if waiting:
        yield from _classified(waiting, before)


def _classified(waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]], before: Look | None) -> Iterator:
    """Pictures and classes of some frames in a row, of which the last is looked at; returns that look."""
    _, seen, points = waiting[-1]
    after = points, np.rint(255 * hair_confidence(seen)).astype(np.uint8)
    for number, (picture, seen, points) in enumerate(waiting, start=1):
        share = number / len(waiting)  # 1 for the last
        hair = after[1] if share == 1 or before is None else _between(before, after, points, share)
        yield (
            picture,
            classes_from_person_and_hair(seen, points, person_confidence(seen), hair.astype(np.float32) / 255),
        )
    return after


def _between(before: Look, after: Look, landmarks: np.ndarray, share: float) -> np.ndarray:
    """Probabilities of hair [H, W] uint8 where the face is at `landmarks`, `share` of the way from one look on."""
    first, last = (_moved(hair, points, landmarks) for points, hair in (before, after))
    return cv2.addWeighted(first, 1 - share, last, share, 0)


def _moved(values: np.ndarray, points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Values [H, W] uint8 moved by the similarity that brings `points` [N, 2] (fractions) nearest to `towards`."""
    size = values.shape[1::-1]
    matrix = fit_similarity(points * size, towards * size)[:2]
    return cv2.warpAffine(values, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
