"""How the landmarks of a clip are found: the pairs of results of which `landmarks.combine` makes one.

both       as the released system: a single-picture detector for eyes and mouth, a tracker for the rest; the network of
           landmarks sees every frame twice
corrected  the tracker sees every frame, the detector each `DETECTED_EACH`th: what it finds there corrects eyes and
           mouth of the frames between, too
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from modules.analysis.mediapipe_models import FaceFinder
from modules.face3d.landmark_sets import EYES, MOUTH

LandmarkMethod = Literal["both", "corrected"]
DETECTED_EACH = 3  # frames from one look of the detector to the next, where it corrects a tracker
NEAR = 0.5  # sizes of a face that it may move from one frame to the next
Find = Callable[[np.ndarray], np.ndarray]  # picture [H, W, 3] uint8 -> landmarks [N, 478, 2] of its faces, best first
UNSMOOTHED_MS = 100_000  # milliseconds between frames after which the tracker does not smooth
# Of MediaPipe's own smoothing (Casiez, Roussel and Vogel 2012, "1 euro filter"): hertz, a factor on the speed in face
# sizes a second, hertz.
LEAST_CUTOFF, CUTOFF_BY_SPEED, SPEED_CUTOFF = 0.05, 80.0, 1.0


class BothModes:
    """A detector and a tracker that see every frame.

    Args:
        detect: the detector.
        tracker: a `FaceFinder` that tracks.
        step_ms: milliseconds between frames that the tracker is given.
    """

    def __init__(self, detect: Find, tracker: FaceFinder, step_ms: int) -> None:
        self._detect, self._tracker, self._step_ms = detect, tracker, step_ms

    def find(self, frame: np.ndarray, number: int, cut: bool) -> tuple[np.ndarray, np.ndarray]:
        """Faces [N, 478, 2] and tracked faces [M, 478, 2] of frame `number`; `cut`: it has another shape."""
        faces, tracked = self._detect(frame), self._tracker.find(frame, number * self._step_ms)
        return faces, faces if cut else tracked  # it looked where the face was in a picture of another shape

    def finish(self, rows: np.ndarray) -> np.ndarray:
        """The landmarks of all frames, from those [T, 478, 2] that were combined of what `find` gave."""
        return rows


class CorrectedTracker:
    """A tracker that does not smooth, and its landmarks smoothed; eyes and mouth of the former are corrected.

    A detector and a tracker crop the face differently, and the network of landmarks answers differently, by an offset
    that changes slowly. The detector looks at each `DETECTED_EACH`th frame and where the tracker has lost the face.

    Args:
        detect, tracker, step_ms: as of `BothModes`; the last is the time over which is smoothed.
    """

    def __init__(self, detect: Find, tracker: FaceFinder, step_ms: int) -> None:
        self._detect, self._tracker, self._smooth = detect, tracker, Smoothing(step_ms / 1000)
        self._detected: dict[int, np.ndarray] = {}  # by number of the frame, [N, 478, 2]

    def find(self, frame: np.ndarray, number: int, cut: bool) -> tuple[np.ndarray, np.ndarray]:
        """As `BothModes.find`."""
        faces = self._tracker.find(frame, number * UNSMOOTHED_MS)
        lost = cut or not len(faces)
        if lost or number % DETECTED_EACH == 0:
            self._detected[number] = self._detect(frame)
        if lost:
            faces = self._detected[number]
            self._smooth.forget()
        size = frame.shape[1::-1]
        return faces, np.stack([self._smooth(faces[0] * size)]) / size if len(faces) else faces

    def finish(self, rows: np.ndarray) -> np.ndarray:
        """As `BothModes.finish`: eyes and mouth corrected by what the detector found, in proportion between."""
        chosen = list(EYES + MOUTH)
        near = {n: same_face(faces, rows[n]) for n, faces in self._detected.items() if n < len(rows)}
        offsets = {n: faces[0, chosen] - rows[n, chosen] for n, faces in near.items() if len(faces)}
        if not offsets:
            return rows
        known, values = np.array(list(offsets)), np.array(list(offsets.values()))
        numbers = np.arange(len(rows)).clip(known[0], known[-1])
        after = np.searchsorted(known, numbers)  # the first that is not before
        before = np.maximum(after - (known[after] > numbers), 0)
        share = (numbers - known[before]) / np.maximum(known[after] - known[before], 1)
        corrected = rows.copy()
        corrected[:, chosen] += values[before] + share[:, None, None] * (values[after] - values[before])
        return corrected


def same_face(faces: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Of faces [N, 478, 2] the one that was at `before` [478, 2] a frame ago: [1, 478, 2], or [0, 478, 2] if none."""
    if not len(faces):
        return faces
    distances = np.abs(faces.mean(1) - before.mean(0)) / np.ptp(before, axis=0)  # in sizes of the face, [N, 2]
    nearest = int(distances.max(1).argmin())
    return faces[nearest : nearest + 1] if distances[nearest].max() < NEAR else faces[:0]


class Smoothing:
    """Landmarks in pixels, frame by frame -> without the jitter of a face at rest: the filter of MediaPipe's tracker.

    Args:
        step: seconds between frames.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next frame."""
        self._last = self._smooth = self._speed = None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The smoothed landmarks of the next frame, [478, 2] -> [478, 2]."""
        if self._last is None:
            self._last, self._smooth, self._speed = points, points, np.zeros_like(points)
            return points
        size = float(np.ptp(points, axis=0).mean())
        speed = (points - self._last) / max(size, 1e-6) / self._step
        self._speed = self._speed + self._share(SPEED_CUTOFF) * (speed - self._speed)
        share = self._share(LEAST_CUTOFF + CUTOFF_BY_SPEED * np.abs(self._speed))
        self._last, self._smooth = points, self._smooth + share * (points - self._smooth)
        return self._smooth

    def _share(self, cutoff: float | np.ndarray) -> float | np.ndarray:
        """Of a new value in a low-pass filter of a cutoff in hertz."""
        return 1 / (1 + 1 / (2 * np.pi * cutoff * self._step))


METHODS: dict[LandmarkMethod, type[BothModes] | type[CorrectedTracker]] = {
    "both": BothModes,
    "corrected": CorrectedTracker,
}
