"""The PNCCs of a clip as bytes, as they are stored and read: of every frame, then of the neutral face."""

import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.media.pixels import to_uint8

FRAMES_AT_ONCE = 8  # rendered together


def pncc_pixels(model: MorphableModel, face: FaceCoefficients, rows: list[int], size: int) -> Tensor:
    """PNCCs of some frames of a clip.

    Args:
        face: T frames, on the model's device.
        rows: N frame numbers; -1 (or T) is the neutral face.
        size: pixels a side.
    Returns:
        uint8 [N, 3, size, size]; 0 where no skin is.
    """
    expression = torch.cat([face.expression, torch.zeros_like(face.expression[:1])])
    pncc = render_pncc(model, face.identity, expression[rows], size)
    return to_uint8(pncc)


def all_pncc(model: MorphableModel, face: FaceCoefficients, size: int) -> np.ndarray:
    """PNCCs of a whole clip, uint8 [T + 1, 3, size, size]: of every frame, then of the neutral face."""
    rows = torch.arange(len(face) + 1).split(FRAMES_AT_ONCE)
    return torch.cat([pncc_pixels(model, face, part.tolist(), size) for part in rows]).numpy()
