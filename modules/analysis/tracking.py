"""How the landmarks of a clip are found: the pairs of results of which `landmarks.combine` makes one.

both      as the released system: a single-picture detector for eyes and mouth, a tracker for the rest; the network of
          landmarks sees every frame twice
tracked   the tracker alone at half the time: its landmarks as they are for eyes and mouth, smoothed for the rest
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from modules.analysis.mediapipe_models import FaceFinder

LandmarkMethod = Literal["both", "tracked"]
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


class TrackedOnly:
    """A tracker that does not smooth, and its landmarks smoothed; a detector where it has lost the face.

    Args:
        detect, tracker, step_ms: as of `BothModes`; the last is the time over which is smoothed.
    """

    def __init__(self, detect: Find, tracker: FaceFinder, step_ms: int) -> None:
        self._detect, self._tracker, self._smooth = detect, tracker, Smoothing(step_ms / 1000)

    def find(self, frame: np.ndarray, number: int, cut: bool) -> tuple[np.ndarray, np.ndarray]:
        """As `BothModes.find`."""
        faces = self._tracker.find(frame, number * UNSMOOTHED_MS)
        if cut or not len(faces):
            faces = self._detect(frame)
            self._smooth.forget()
        size = frame.shape[1::-1]
        return faces, np.stack([self._smooth(faces[0] * size)]) / size if len(faces) else faces


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


METHODS: dict[LandmarkMethod, type[BothModes] | type[TrackedOnly]] = {"both": BothModes, "tracked": TrackedOnly}
