"""Frames of any video -> its `ClipSeries`: landmarks found in every frame by itself, then one fit of the whole clip."""

import numpy as np
import torch

from modules.analysis.mediapipe_models import LANDMARKS, FaceFinder
from modules.face3d.coefficients import EXPRESSION_SIZE, FaceCoefficients
from modules.face3d.fitting import fit_clip
from modules.face3d.morphable_model import MorphableModel
from modules.metrics.series import ClipSeries

MOST_FACES = 2  # that are looked for: a picture with exactly one must be told from others


class Tracer:
    """Follows one video; truth and methods are followed alike, so that the detector's errors meet both.

    Args:
        finder: of single pictures, shared by all tracers.
        size: S, pixels a side of the frames.
    """

    def __init__(self, finder: FaceFinder, size: int) -> None:
        self.finder, self.size = finder, size
        self.rows: list[np.ndarray] = []
        self.faces: list[int] = []
        self._last: np.ndarray | None = None

    def add(self, frame: np.ndarray | None) -> None:
        """The next frame, uint8 [S, S, 3]; None for one that is missing, which counts as one without a face."""
        if frame is not None and frame is self._last:  # a still picture is looked at once
            self.rows.append(self.rows[-1])
            self.faces.append(self.faces[-1])
            return
        found = self.finder.find(frame) if frame is not None else []
        self.rows.append(found[0] if len(found) else np.full((LANDMARKS, 2), np.nan))
        self.faces.append(len(found))
        self._last = frame

    @property
    def latest(self) -> np.ndarray:
        """Landmarks of the last frame, [478, 2] in pixels; NaN without a face."""
        return self.rows[-1] * self.size

    def series(self, model: MorphableModel) -> ClipSeries:
        """All that was seen, with the fit of `model` to the frames that show a face."""
        landmarks = torch.from_numpy(np.array(self.rows)).float()
        seen = landmarks.isfinite().flatten(1).all(dim=1)
        return ClipSeries.of(landmarks * self.size, self.size, fitted(model, landmarks, seen), torch.tensor(self.faces))


def fitted(model: MorphableModel, landmarks: torch.Tensor, seen: torch.Tensor) -> FaceCoefficients:
    """The fit of the frames `seen` [T] of landmarks [T, 478, 2], fractions; a picture that stands still is fitted once.

    The fit of equal frames is that of one of them, number for number.
    """
    if not seen.any():
        return no_face(len(landmarks))
    rows = landmarks[seen]
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        return fit_clip(model, rows)
    face = fit_clip(model, rows[:1])
    moving = (x.expand(len(rows), -1) for x in (face.expression, face.euler, face.translation))
    return FaceCoefficients(face.identity, *moving)


def no_face(frames: int) -> FaceCoefficients:
    """Coefficients of a video without any face: all NaN."""
    return FaceCoefficients(
        torch.full((1, 80), torch.nan),
        torch.full((frames, EXPRESSION_SIZE), torch.nan),
        torch.full((frames, 3), torch.nan),
        torch.full((frames, 3), torch.nan),
    )
