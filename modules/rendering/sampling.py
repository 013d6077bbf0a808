"""Depths along rays: stratified between two limits, then importance sampling where the first pass met density.

See docs/spec/head.md#2-6.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def stratified_depths(near: Tensor, far: Tensor, jitter: Tensor) -> Tensor:
    """Evenly spaced depths, each moved on by a part of the spacing.

    Args:
        near, far: [..., 1].
        jitter: [..., N] or [N], in [0, 1); the last sample can lie up to one spacing beyond `far`.
    Returns:
        [..., N], increasing.
    """
    count = jitter.shape[-1]
    steps = torch.arange(count, device=near.device, dtype=near.dtype)
    return near + (far - near) * ((steps + jitter) / (count - 1))


def smooth_weights(weights: Tensor) -> Tensor:
    """Widened weights [..., N] for importance sampling: mean of the maxima with either neighbour, plus 0.01."""
    larger = torch.maximum(weights[..., :-1], weights[..., 1:])  # [..., N-1]
    left = torch.cat([weights[..., :1], larger], dim=-1)
    right = torch.cat([larger, weights[..., -1:]], dim=-1)
    return 0.5 * (left + right) + 0.01


def importance_depths(depths: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Depths drawn from the piecewise constant density that the weights of a first march describe.

    Args:
        depths: [..., N] of the first march, N at least 4.
        weights: [..., N-1] of its intervals.
        uniform: [..., M] or [M], in [0, 1): where to invert the cumulative distribution.
    Returns:
        [..., M], without gradient; unsorted unless `uniform` is sorted.
    """
    depths, weights = depths.detach(), weights.detach()
    bins = 0.5 * (depths[..., :-1] + depths[..., 1:])  # [..., N-1]
    pdf = smooth_weights(weights)[..., 1:-1] + 1e-5  # [..., N-3]
    cdf = F.pad(torch.cumsum(pdf / pdf.sum(dim=-1, keepdim=True), dim=-1), (1, 0))  # [..., N-2]
    uniform = uniform.expand(*cdf.shape[:-1], uniform.shape[-1]).contiguous()
    index = torch.searchsorted(cdf, uniform, right=True)
    below, above = (index - 1).clamp(min=0), index.clamp(max=cdf.shape[-1] - 1)
    cdf_below = cdf.gather(-1, below)
    width = cdf.gather(-1, above) - cdf_below
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    bin_below = bins.gather(-1, below)
    return bin_below + (uniform - cdf_below) / width * (bins.gather(-1, above) - bin_below)
