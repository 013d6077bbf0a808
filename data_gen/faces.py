"""The face of a segment of video: a square crop, the fitted face model, class maps; and the limits it must keep."""

from dataclasses import dataclass

import numpy as np
import torch

from modules.analysis.crop import Box, clip_crop, crop_landmarks
from modules.analysis.landmarks import MAX_OUTSIDE
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_clip
from modules.face3d.morphable_model import MorphableModel
from modules.metrics.motion import landmark_error
from modules.system.errors import UserError

SMALLEST_SHARE = 0.05  # of the square that the face fills; what `segment` needs
LARGEST_MIRROR = 0.15  # share of the square beyond the frame, where its reflection is put


@dataclass(frozen=True, kw_only=True)
class FaceLimits:
    """Limits that a segment of video must keep to become a clip.

    Attributes:
        smallest_face: pixels, median width of the face in the video.
        largest_turn: degrees of yaw that a tenth of the frames may exceed.
        largest_error: median distance of the fitted landmarks, in distances of the outer eye corners; talking heads
            have about 0.01.
    """

    smallest_face: float = 100.0
    largest_turn: float = 60.0
    largest_error: float = 0.04

    def __post_init__(self) -> None:
        if self.smallest_face < 1 or not 0 < self.largest_turn <= 90 or self.largest_error <= 0:
            raise ValueError(
                f"smallest_face {self.smallest_face} >= 1, largest_turn {self.largest_turn} in 0..90 and "
                f"largest_error {self.largest_error} > 0 must hold"
            )


@dataclass(frozen=True)
class FittedFace:
    """The square `box` of the frames, landmarks [T, 478, 2] as fractions of it, coefficients of the T frames."""

    box: Box
    landmarks: np.ndarray
    face: FaceCoefficients


def fit_face(model: MorphableModel, landmarks: np.ndarray, shape: tuple[int, int], limits: FaceLimits) -> FittedFace:
    """Find the square around a face and fit the model.

    Args:
        landmarks: [T, 478, 2], fractions of the frame.
        shape: (H, W) of the frames.
    Raises:
        UserError: the face is too small, at the border, moves too far, is turned away, or the model does not fit it.
    """
    box = clip_crop(shape, landmarks)
    inside = crop_landmarks(landmarks, shape, box)
    _check_framing(landmarks, inside, shape, box, limits)
    face = fit_clip(model, torch.from_numpy(inside).float())
    error = float(landmark_error(model, face, torch.from_numpy(inside).float()).median())
    turn = float(torch.rad2deg(face.euler[:, 1]).abs().quantile(0.9))
    if turn > limits.largest_turn:
        raise UserError(f"the head is turned by {turn:.0f} degrees (largest_turn {limits.largest_turn:g})")
    if error > limits.largest_error:
        raise UserError(f"the face model does not fit: error {error:.3f} (largest_error {limits.largest_error:g})")
    return FittedFace(box, inside, face)


def _check_framing(
    landmarks: np.ndarray, inside: np.ndarray, shape: tuple[int, int], box: Box, limits: FaceLimits
) -> None:
    width = float(np.median(np.ptp(landmarks[..., 0], axis=1))) * shape[1]
    if width < limits.smallest_face:
        raise UserError(f"the face is {width:.0f} pixels wide (smallest_face {limits.smallest_face:g})")
    if float(((landmarks < 0) | (landmarks > 1)).any(-1).mean()) > MAX_OUTSIDE:
        raise UserError("the face is cut off by the border of the picture")
    share = float(np.median(np.prod(np.ptp(inside, axis=1), axis=-1)))
    if share < SMALLEST_SHARE:
        raise UserError("the head moves too far for one square around it")
    if _overlap(box, shape) < (1 - LARGEST_MIRROR) * box.width * box.height:
        raise UserError("the square around the face does not fit into the picture")


def _overlap(box: Box, shape: tuple[int, int]) -> int:
    """Pixels of a box that lie in a picture of shape (H, W)."""
    rows = min(box.bottom, shape[0]) - max(box.top, 0)
    columns = min(box.right, shape[1]) - max(box.left, 0)
    return max(rows, 0) * max(columns, 0)
