"""Band march: which samples of a picture's rays can matter, from the densities of a coarse grid of rays.

A coarse ray sees matter between its first and its last interval of some weight. Each ray of the picture evaluates those
samples of its full march that lie where the coarse ray of its cell or one of the eight neighbours saw matter, from the
nearest to the farthest (so several layers, as hair before a cheek, stay whole), and one spacing more at either end. All
others count as empty; rays without any cost nothing. The march of the rest is the full one, at the same depths.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from modules.layers.precision import full_precision

LEAST_WEIGHT = 0.004  # of an interval that is seen: a grey level of a full white
CELL = 4  # pixels a side of a coarse ray's cell, at least
EMPTY = -1000.0  # raw density of a sample that is not evaluated


def coarse_resolution(resolution: int) -> int:
    """Coarse rays a side for a picture of `resolution` pixels a side."""
    return max(1, resolution // CELL)


def needed_samples(coarse_depths: Tensor, coarse_weights: Tensor, depths: Tensor) -> Tensor:
    """The samples in the band.

    Args:
        coarse_depths: [B, g*g, N], increasing.
        coarse_weights: [B, g*g, N-1], of the intervals.
        depths: [B, n*n, M], of the picture's samples; cells of the coarse grid cover the same image.
    Returns:
        Bool [B, n*n, M].
    """
    spacing = coarse_depths[..., 1:] - coarse_depths[..., :-1]
    seen = coarse_weights > LEAST_WEIGHT
    first = torch.where(seen, coarse_depths[..., :-1] - spacing, torch.inf).amin(dim=-1)
    last = torch.where(seen, coarse_depths[..., 1:] + spacing, -torch.inf).amax(dim=-1)
    side, resolution = (round(values.shape[1] ** 0.5) for values in (coarse_depths, depths))
    limits = rearrange(torch.stack([-first, last], dim=1), "b two (h w) -> b two h w", h=side)
    limits = F.interpolate(F.max_pool2d(limits, 3, stride=1, padding=1), (resolution, resolution), mode="nearest-exact")
    first, last = rearrange(limits, "b two h w -> two b (h w) 1")
    return (depths >= -first) & (depths <= last)


@dataclass(frozen=True)
class Colours:
    """Colour logits of all samples, [B, R, S, C]."""

    logits: Tensor

    @full_precision()  # sums of many samples stay float32
    def mean(self, shares: Tensor) -> Tensor:
        """Sum over the samples of shares [B, R, S] times colours: [B, R, C]."""
        return (shares[:, :, None] @ self.logits.sigmoid())[:, :, 0]


@dataclass(frozen=True)
class NeededColours:
    """Colour logits of the needed samples alone.

    Attributes:
        logits: [K, C], in the order of `needed.nonzero()`.
        needed: [B, R, S].
        places: [K], where they are in `needed.flatten()`.
    """

    logits: Tensor
    needed: Tensor
    places: Tensor

    @full_precision()
    def mean(self, shares: Tensor) -> Tensor:
        """As `Colours.mean`; shares of other samples are left out."""
        counts = self.needed.sum(dim=-1).flatten()
        starts = F.pad(counts.cumsum(0)[:-1], (1, 0))
        rows = torch.arange(len(self.logits), device=self.logits.device)
        weights = shares.flatten().index_select(0, self.places)
        values = F.embedding_bag(rows, self.logits.sigmoid(), starts, mode="sum", per_sample_weights=weights)
        return values.view(*self.needed.shape[:2], -1)
