"""The six classes of a pixel of a portrait, and which of them make up its parts (docs/spec/data_gen.md#3 and #4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHERS = range(6)  # body skin: the neck; others: glasses, hats
CLASSES = 6
HEAD_CLASSES = (HAIR, FACE_SKIN, OTHERS)
TORSO_CLASSES = (BODY_SKIN, CLOTHES)


def one_hot(classes: Tensor) -> Tensor:
    """Class numbers [B, H, W] of any integer type -> float32 [B, 6, H, W], 1 in the channel of the pixel's class."""
    return F.one_hot(classes.long(), CLASSES).movedim(-1, 1).float()


def part_mask(classes: Tensor, parts: tuple[int, ...]) -> Tensor:
    """Class maps [B, H, W] of any integer type -> bool [B, 1, H, W], True on the classes `parts`."""
    return torch.isin(classes, torch.tensor(parts, dtype=classes.dtype, device=classes.device))[:, None]
