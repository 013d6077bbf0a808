"""Bilinear resizing of images, and the positions of their pixel centres."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(image: Tensor, size: int, antialias: bool = True) -> Tensor:
    """Bilinear resize of [B, C, H, W] to size x size (pixel centres aligned at half pixels); same size: untouched."""
    if image.shape[-2:] == (size, size):
        return image
    antialias = antialias and size < max(image.shape[-2:])  # else it is the plain filter, which is faster
    resized = F.interpolate(image.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized.to(image.dtype)


def pixel_centres(size: int, device: torch.device) -> Tensor:
    """Pixel centres of a square image, [2, size, size] (x, y); -1 and 1 are its edges, as for `resize`."""
    steps = (torch.arange(size, device=device) + 0.5) * 2 / size - 1
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
