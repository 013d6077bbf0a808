"""Bytes of a picture <-> numbers in [-1, 1]: 0 is -1, 255 is 1. The only file that knows the scale."""

import numpy as np
import torch
from torch import Tensor


def to_float(pixels: Tensor) -> Tensor:
    """uint8 of any shape, 0 to 255 -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_uint8(image: Tensor) -> Tensor:
    """Values in [-1, 1] of any shape -> uint8, 0 to 255, rounded; values beyond [-1, 1] are clamped."""
    return image.float().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)


def to_tensor(picture: np.ndarray) -> Tensor:
    """uint8 [H, W, C] (T = 1) or [T, H, W, C] -> float32 [T, C, H, W] in [-1, 1]."""
    frames = to_float(torch.from_numpy(np.ascontiguousarray(picture)))
    return (frames if frames.ndim == 4 else frames[None]).permute(0, 3, 1, 2).contiguous()


def to_pixels(image: Tensor) -> np.ndarray:
    """[T, C, H, W] in [-1, 1] on any device -> uint8 [T, H, W, C], rounded and clamped as by `to_uint8`.

    They lie in memory as their shape says: encoders would each put them so, and more slowly.
    """
    return to_uint8(image).permute(0, 2, 3, 1).contiguous().cpu().numpy()
