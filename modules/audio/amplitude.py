"""How wide a speaker opens mouth and eyes, and when the eyes blink, from landmarks (docs/spec/audio2motion.md#7)."""

import torch
from torch import Tensor

from modules.face3d.landmark_sets import LID_MIDDLES, LID_PAIRS_68, OUTER_LIP_MIDDLES, OUTER_LIP_MIDDLES_68

_MOUTH = {68: OUTER_LIP_MIDDLES_68, 468: OUTER_LIP_MIDDLES}
_EYES = {68: LID_PAIRS_68, 468: LID_MIDDLES}
BLINK_RATIO = 0.85


def _distance(landmarks: Tensor, first: int, second: int) -> Tensor:
    return (landmarks[:, first] - landmarks[:, second]).abs().sum(-1)


def _points(landmarks: Tensor) -> int:
    """Which set [T, L, 3] is: 68, or 468 for 468 and more."""
    if landmarks.ndim != 3 or (landmarks.shape[1] != 68 and landmarks.shape[1] < 468):
        raise ValueError(f"landmarks are {tuple(landmarks.shape)}; expected [T, 68, 3] or [T, 468, 3]")
    return 68 if landmarks.shape[1] == 68 else 468


def outer_lip_distance(landmarks: Tensor) -> Tensor:
    """Distance of the outer lips: landmarks [T, 68 or 468, 3] in dm, with the mean shape, no pose -> [T] dm (L1)."""
    return _distance(landmarks, *_MOUTH[_points(landmarks)])


def eye_opening(landmarks: Tensor) -> Tensor:
    """Sum of the lid distances: landmarks [T, 68 or 468, 3] in dm, with the mean shape, no pose -> [T] dm (L1)."""
    return sum(_distance(landmarks, *pair) for pair in _EYES[_points(landmarks)])


def mouth_amplitude(landmarks: Tensor) -> Tensor:
    """0.9-quantile of the outer lips' distance in a clip: landmarks [T, 68 or 468, 3] in dm -> scalar, dm."""
    return outer_lip_distance(landmarks).quantile(0.9)


def eye_amplitude(landmarks: Tensor) -> Tensor:
    """0.9-quantile of the eye opening of a clip: landmarks [T, 68 or 468, 3] in dm -> scalar, dm."""
    return eye_opening(landmarks).quantile(0.9)


def blink_units(landmarks: Tensor) -> Tensor:
    """One 1 in the middle of each blink, else 0: landmarks [T, 68 or 468, 3] in dm -> [T] int64."""
    opening = eye_opening(landmarks)
    return run_centres((opening / opening.quantile(0.75) < BLINK_RATIO).long())


def run_centres(closed: Tensor) -> Tensor:
    """Each run of ones becomes a single 1 at start + length // 2; a run up to the end becomes 0: [T] -> [T] int64."""
    closed = closed.long()
    edges = torch.diff(closed, prepend=closed.new_zeros(1), append=closed.new_zeros(1))
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    centres = (starts + (ends - starts) // 2)[ends < len(closed)]
    units = torch.zeros_like(closed)
    units[centres] = 1
    return units
