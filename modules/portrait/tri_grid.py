"""TriGridRefiner: smooths the canonical tri-grid across its depth slices (a later variant of the model).

See docs/spec/head.md#5.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TriGridRefinerConfig:
    """Sizes follow the planes it refines."""

    plane_channels: int = 32  # C
    plane_depth: int = 3  # D, slices; more than 3 take two blocks
    groups: int = 4  # of the group norms

    def __post_init__(self) -> None:
        if self.plane_depth < 2:
            raise ValueError(f"plane_depth is {self.plane_depth}; a tri-grid has at least 2 slices")
        if self.plane_channels % self.groups:
            raise ValueError(f"{self.plane_channels} plane channels cannot be split into {self.groups} groups")

    @classmethod
    def full(cls) -> "TriGridRefinerConfig":
        """The refiner of the full model's planes."""
        return cls()

    @classmethod
    def demo(cls) -> "TriGridRefinerConfig":
        """The refiner of the demo's planes."""
        return cls(plane_channels=24)


class ResidualBlock3d(nn.Module):
    """x + alpha * two pre-activated 3x3x3 convolutions; alpha is learned and starts small."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.01))
        self.norm1 = nn.GroupNorm(groups, channels, eps=1e-5)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.norm2 = nn.GroupNorm(groups, channels, eps=1e-5)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv1(F.relu(self.norm1(x)))
        residual = self.conv2(F.relu(self.norm2(residual)))
        return x + self.alpha * residual


class TriGridRefiner(nn.Module):
    """Canonical planes of a tri-grid -> refined planes of the same shape."""

    def __init__(self, config: TriGridRefinerConfig) -> None:
        super().__init__()
        self.config = config
        count = 1 if config.plane_depth <= 3 else 2
        self.res_blocks_3d = nn.Sequential(
            *[ResidualBlock3d(config.plane_channels, config.groups) for _ in range(count)]
        )

    def forward(self, planes: Tensor) -> Tensor:
        """planes [B, 3, C*D, H, W], channel c*D + d -> same."""
        depth, count = self.config.plane_depth, planes.shape[1]
        grid = rearrange(planes, "b p (c d) h w -> (b p) c d h w", d=depth)
        return rearrange(self.res_blocks_3d(grid), "(b p) c d h w -> b p (c d) h w", p=count)
