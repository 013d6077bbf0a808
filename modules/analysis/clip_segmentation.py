"""Six classes for every pixel of the frames of a clip: as `segmentation.segment`, at a fraction of its time.

The networks and the rules take 35 times as long as moving their result. So each `KEY_STEP`th frame, and the last, is
looked at; a frame between takes the classes of the nearer of its two neighbours, moved as the pictures moved.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from modules.analysis.crop import Box, crop_picture
from modules.analysis.segmentation import ANALYSIS_SIZE, segment

KEY_STEP = 7  # frames from one look to the next
FLOW_SIZE = 64  # pixels a side at which motion is looked for; more follows noise


def segment_clip(
    frames: Iterable[np.ndarray], box: Box, landmarks: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The square `box` of every frame, uint8 [size, size, 3], and its classes, uint8 [size, size] in 0..5.

    Holds `KEY_STEP` frames. Classes are computed at `ANALYSIS_SIZE`, whatever `size` is.

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


@dataclass(frozen=True)
class _Frame:
    """A frame's square at the size of the result, and as it is looked at; landmarks [478, 2] in fractions."""

    picture: np.ndarray
    seen: np.ndarray
    points: np.ndarray

    @cached_property
    def small(self) -> np.ndarray:
        """Gray, as motion is looked for: uint8 [FLOW_SIZE, FLOW_SIZE]."""
        small = cv2.resize(self.seen, (FLOW_SIZE, FLOW_SIZE), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def _crops(frame: np.ndarray, box: Box, size: int) -> tuple[np.ndarray, np.ndarray]:
    picture = crop_picture(frame, box, size)
    return picture, picture if size == ANALYSIS_SIZE else crop_picture(frame, box, ANALYSIS_SIZE)


def _with_classes(
    crops: Iterable[tuple[np.ndarray, np.ndarray]], landmarks: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a picture and what is looked at -> pairs of that picture and the classes."""
    motion = _Motion()
    before: tuple[_Frame, np.ndarray] | None = None
    waiting: list[_Frame] = []
    for number, ((picture, seen), points) in enumerate(zip(crops, landmarks)):
        waiting.append(_Frame(picture, seen, points))
        if number % KEY_STEP == 0:
            before = yield from _classified(waiting, before, motion)
            waiting = []
    if waiting:
        yield from _classified(waiting, before, motion)


def _classified(waiting: list[_Frame], before: tuple[_Frame, np.ndarray] | None, motion: "_Motion") -> Iterator:
    """Pictures and classes of some frames in a row, of which the last is looked at; returns it with its classes."""
    key = waiting[-1]
    after = key, segment(key.seen, key.points)
    for number, frame in enumerate(waiting[:-1], start=1):
        nearer = before if before is not None and 2 * number <= len(waiting) else after
        yield frame.picture, motion.moved(*nearer, frame)
    yield key.picture, after[1]
    return after


class _Motion:
    """Moves classes from frame to frame by dense inverse search (Kroeger et al. 2016, arXiv 1603.03590)."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._places = np.zeros((0, 0, 2), np.float32)  # of every pixel: column, row

    def moved(self, key: _Frame, classes: np.ndarray, frame: _Frame) -> np.ndarray:
        """Classes [S, S] uint8 of the frame `key`, moved to where its picture is in `frame`."""
        size = len(classes)
        if len(self._places) != size:
            rows, columns = np.indices((size, size), dtype=np.float32)
            self._places = np.stack([columns, rows], axis=-1)
        flow = self._search.calc(frame.small, key.small, None)  # from here to where it was, [64, 64, 2]
        places = cv2.scaleAdd(cv2.resize(flow, (size, size)), size / FLOW_SIZE, self._places)
        return cv2.remap(classes, places, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
