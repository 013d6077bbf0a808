"""The PNCCs of a clip as they are stored and read: bytes, of every frame, then of the neutral face."""

import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.media.pixels import to_uint8

FRAMES_AT_ONCE = 8                     # rendered together


def pncc_pixels(model: MorphableModel, face: FaceCoefficients, rows: list[int], size: int) -> Tensor:
    """uint8 [len(rows), 3, size, size] of frames `rows` of a clip; row -1 (or T) is the neutral face."""
    expression = torch.cat([face.expression, torch.zeros_like(face.expression[:1])])
    pncc = render_pncc(model, face.identity, expression[rows], size)
    return to_uint8(pncc)


def all_pncc(model: MorphableModel, face: FaceCoefficients, size: int) -> np.ndarray:
    """uint8 [T + 1, 3, size, size]: every frame, then the neutral face."""
    rows = torch.arange(len(face) + 1).split(FRAMES_AT_ONCE)
    return torch.cat([pncc_pixels(model, face, part.tolist(), size) for part in rows]).numpy()
