"""Segments of a video: those that show one face without a cut may become clips, the others have a reason why not.

A video is read once, forwards; one frame is held at a time, and the landmarks of one segment.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from modules.analysis.landmarks import MAX_FACES, detect_clip
from modules.analysis.mediapipe_models import FaceFinder
from modules.analysis.tracking import DETECTED_EACH, LandmarkMethod
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError

SAMPLE = DETECTED_EACH  # frames from one count of the faces to the next, in which the detector looks anyway
RETRY = FRAME_RATE  # frames that are left out when `detect` refuses what it sees
THUMBNAIL = (64, 36)
CUT_CHANGE = 20.0  # mean grey levels by which a thumbnail changes at a cut, at least; moving heads: up to 15
CUT_RATIO = 4.0  # and that many times more than the median of the second before
CALM = 1.0  # median change below which a video counts as still
JUMP = 0.25  # face widths a frame that no head moves; measured on talking heads: up to 0.08
NO_FACE = "no face in view that is a tenth of the picture high"
SETTLING = 5  # frames after a jump in which the tracker still follows


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Frames `start` to `start + length` of a video at 25 frames a second.

    Attributes:
        shape: (H, W) of its frames.
        landmarks: [length, 478, 2], fractions of the frame; None if the segment cannot be used.
        reason: why not; empty if it can.
    """

    start: int
    length: int
    shape: tuple[int, int] = (0, 0)
    landmarks: np.ndarray | None = None
    reason: str = ""

    @property
    def stop(self) -> int:
        """The frame after the last."""
        return self.start + self.length

    def part(self, first: int, last: int) -> "Segment":
        """The segment of its frames `first` to `last` (exclusive), counted from its start."""
        return replace(self, start=self.start + first, length=last - first, landmarks=self.landmarks[first:last])


def find_segments(
    frames: Iterator[np.ndarray], name: str, longest: int, method: LandmarkMethod = "both"
) -> Iterator[Segment]:
    """Divide a video; a segment ends at a cut, where not exactly one face is in view, or after `longest` frames.

    Args:
        frames: uint8 [H, W, 3], 25 a second; a change of their size is a cut.
        name: of the video, for error messages.
        longest: frames.
        method: of the landmarks (`detect_clip`).
    Yields:
        Stretches in order. Usable ones have landmarks (`detect_clip`); a damaged end is a refused one of no length.
    Raises:
        UserError: a model file is missing.
    """
    with FaceFinder(MAX_FACES) as finder:
        reader = _Reader(frames, finder)
        while reader.more:
            start, shape, faces = reader.position, reader.shape, reader.faces()
            if faces != 1:
                reader.skip(SAMPLE)
                reason = NO_FACE if faces == 0 else "several faces in view"
                yield Segment(start=start, length=reader.position - start, reason=reason)
                continue
            try:
                landmarks = detect_clip(reader.shot(longest), name, method=method, find=reader.find)
            except UserError as error:
                reader.skip(RETRY)
                yield Segment(start=start, length=reader.position - start, reason=str(error).partition(";")[0])
            else:
                yield Segment(start=start, length=reader.good, shape=shape, landmarks=landmarks[: reader.good])
        if reader.damage:
            yield Segment(start=reader.position, length=0, reason=reader.damage)


class _Reader:
    """Reads the frames of a video, one of them ahead."""

    def __init__(self, frames: Iterator[np.ndarray], finder: FaceFinder) -> None:
        self._frames, self._finder = frames, finder
        self._thumbnail: np.ndarray | None = None
        self.shape = (0, 0)  # of the frame ahead
        self._changes: deque[float] = deque(maxlen=FRAME_RATE)
        self.position = 0  # of the frame ahead
        self.cut = False  # whether the frame ahead begins another scene
        self.good = 0  # frames of the last `shot` up to its last counted frame with one face
        self.damage = ""
        self._found: tuple[np.ndarray | None, np.ndarray] = None, np.zeros(0)
        self._ahead = self._read()

    @property
    def more(self) -> bool:
        return self._ahead is not None

    def faces(self) -> int:
        """Number of faces in the frame ahead."""
        return len(self.find(self._ahead))

    def find(self, picture: np.ndarray) -> np.ndarray:
        """The landmarks of all faces of a picture; those of one that was asked for last are remembered."""
        if picture is not self._found[0]:
            self._found = picture, self._finder.find(picture)
        return self._found[1]

    def shot(self, longest: int) -> Iterator[np.ndarray]:
        """Yield the frames up to what ends a segment; the first one must show one face."""
        self.good = count = 0
        while self.more and count < longest and not (count and self.cut):
            if count and count % SAMPLE == 0 and self.faces() != 1:
                return
            count += 1
            yield self._take()
            if count % SAMPLE == 1:
                self.good = count
        self.good = count

    def skip(self, count: int) -> None:
        """Leave out `count` frames, fewer if a cut comes before."""
        for number in range(count):
            if not self.more or (number and self.cut):
                break
            self._take()

    def _take(self) -> np.ndarray:
        frame, self._ahead = self._ahead, self._read()
        self.position += 1
        return frame

    def _read(self) -> np.ndarray | None:
        try:
            frame = next(self._frames, None)
        except UserError as error:
            self.damage = str(error).partition(";")[0]
            return None
        if frame is not None:
            every_second = np.ascontiguousarray(frame[::2, ::2])  # enough for a mean
            thumbnail = cv2.resize(every_second, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
            change = 0.0 if self._thumbnail is None else float(np.abs(thumbnail - self._thumbnail).mean())
            self.cut = is_cut(change, self._changes) or frame.shape[:2] != self.shape
            self.shape = frame.shape[:2]
            if self.cut:
                self._changes.clear()
            else:
                self._changes.append(change)
            self._thumbnail = thumbnail
        return frame


def is_cut(change: float, before: deque[float]) -> bool:
    """Whether a thumbnail that changes by `change` grey levels begins another scene, after the changes `before`."""
    usual = max(float(np.median(before)), CALM) if before else CALM
    return change > max(CUT_CHANGE, CUT_RATIO * usual)


def without_jumps(segment: Segment) -> list[Segment]:
    """Divide a usable segment where the face is suddenly elsewhere: a cut that the thumbnails do not show.

    Returns:
        Usable segments; the frames in which the tracker settles are left out.
    """
    points = segment.landmarks * segment.shape[::-1]  # [T, 478, 2] pixels
    widths = np.ptp(points[..., 0], axis=1)
    steps = np.linalg.norm(np.diff(points.mean(1), axis=0), axis=1) / widths[1:]
    parts, first = [], 0
    for jump in np.flatnonzero(steps > JUMP) + 1:
        if jump > first:
            parts.append(segment.part(first, int(jump)))
        first = int(jump) + SETTLING
    if first < segment.length:
        parts.append(segment.part(first, segment.length))
    return parts


def merged(refused: list[Segment]) -> list[Segment]:
    """Neighbouring refused segments of one reason (numbers in it aside) as one each, in order."""
    result: list[Segment] = []
    for segment in sorted(refused, key=lambda s: s.start):
        last = result[-1] if result else None
        if last and last.stop >= segment.start and _kind(last.reason) == _kind(segment.reason):
            result[-1] = replace(last, length=segment.stop - last.start)
        else:
            result.append(segment)
    return result


def _kind(reason: str) -> str:
    return re.sub(r"\d+", "", reason)
