"""Pictures of the image stages' validation."""

import torch
from torch import Tensor


def depth_picture(depth: Tensor, weights: Tensor) -> Tensor:
    """Near is bright: depth and weights [B, 1, n, n] -> [B, 1, n, n] in [-1, 1], -1 where nothing is."""
    inside = weights > 0.5
    near = torch.where(inside, depth, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    far = torch.where(inside, depth, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    grey = 1 - 1.6 * (depth - near) / (far - near).clamp(min=1e-6)
    return torch.where(inside, grey, -1.0)
