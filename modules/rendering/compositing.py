"""Volume rendering along rays: raw densities and depths -> weights, and from those a feature, a depth and a mask.

All quantities live on the intervals between neighbouring samples (midpoint rule, as in mip-NeRF).
See docs/spec/head.md#2-5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def density(sigma: Tensor) -> Tensor:
    """Density per world unit, at least 0, of raw density of any shape."""
    return F.softplus(sigma - 1.0)


def interval_weights(depths: Tensor, sigma: Tensor) -> Tensor:
    """Share of every interval in the pixel.

    Args:
        depths: [..., N], increasing.
        sigma: [..., N], raw density; an interval has the `density` of the mean of its ends.
    Returns:
        [..., N-1], non-negative, sum at most 1.
    """
    middle = 0.5 * (sigma[..., :-1] + sigma[..., 1:])
    optical = density(middle) * (depths[..., 1:] - depths[..., :-1])
    before = F.pad(torch.cumsum(optical, dim=-1)[..., :-1], (1, 0))
    transmitted = torch.exp(-before)  # product of the earlier 1 - alpha
    return -torch.expm1(-optical) * transmitted


def sample_weights(weights: Tensor) -> Tensor:
    """Weights of the samples, [..., N-1] of the intervals -> [..., N]: an interval counts half at either end.

    Then the sum over intervals of weight x mean value is a plain weighted sum over samples.
    """
    return 0.5 * (F.pad(weights, (0, 1)) + F.pad(weights, (1, 0)))


def expected_depth(weights: Tensor, depths: Tensor, shortest: Tensor, farthest: Tensor) -> Tensor:
    """Mean depth of the intervals, limited to [shortest, farthest]; where nothing was met, `farthest`.

    Args:
        weights: [..., N-1].
        depths: [..., N].
        shortest, farthest: broadcastable to [..., 1].
    Returns:
        [..., 1].
    """
    total = weights.sum(dim=-1, keepdim=True)
    middle = 0.5 * (depths[..., :-1] + depths[..., 1:])
    empty = total <= 0
    mean = (weights * middle).sum(dim=-1, keepdim=True) / torch.where(empty, torch.ones_like(total), total)
    return torch.where(empty, farthest, torch.maximum(torch.minimum(mean, farthest), shortest))
