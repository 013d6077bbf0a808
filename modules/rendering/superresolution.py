"""Super-resolution of the rendered feature image, n -> 2n -> 4n pixels, with two StyleGAN2 blocks.

EG3D's paper, 4.2; see docs/spec/sr_torso_eg3d.md#2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modules.layers.resample import resize
from modules.layers.stylegan import SynthesisBlock, SynthesisBlockConfig

_TO_RGB = tuple(f"{block}.torgb.{part}" for block in ("block0", "block1") for part in ("weight", "bias"))


@dataclass(frozen=True, kw_only=True)
class SuperresolutionConfig:
    """Widths and sizes of the decoder; the defaults are the released portrait model (8x: 128 -> 512)."""

    resolution: int = 128  # n: pixels a side of the rendered image; others are resized to it first
    feature_channels: int = 32  # of the rendered feature image
    middle_channels: int = 256  # of block0
    output_channels: int = 128  # of block1
    w_dim: int = 512
    scale: int = 4  # 4: n -> 2n -> 4n; 2: block0 does not up-sample (EG3D's 256- and 128-pixel models)
    clamp: float | None = None  # 256 in the EG3D teacher
    noise: bool = True  # layers own noise maps (stored in released weights, unused by the portrait models)

    def __post_init__(self) -> None:
        if self.scale not in (2, 4):
            raise ValueError(f"super-resolution by {self.scale}; only 2 and 4 exist")
        if self.resolution < 4:
            raise ValueError(f"super-resolution from {self.resolution} pixels; use at least 4")

    @classmethod
    def full(cls) -> "SuperresolutionConfig":
        """The released model: 128 -> 512 pixels."""
        return cls()

    @classmethod
    def demo(cls) -> "SuperresolutionConfig":
        """128 (from any rendered size) -> 256 pixels, small enough for one CPU core."""
        return cls(
            resolution=128, scale=2, feature_channels=24, middle_channels=48, output_channels=16, w_dim=32, noise=False
        )

    def block0(self) -> SynthesisBlockConfig:
        """The first block: feature channels -> middle channels."""
        return SynthesisBlockConfig(
            in_channels=self.feature_channels,
            out_channels=self.middle_channels,
            w_dim=self.w_dim,
            resolution=self.resolution * self.scale // 2,
            up=self.scale == 4,
            clamp=self.clamp,
            noise=self.noise,
        )

    def block1(self) -> SynthesisBlockConfig:
        """The second block: middle channels -> output channels."""
        return SynthesisBlockConfig(
            in_channels=self.middle_channels,
            out_channels=self.output_channels,
            w_dim=self.w_dim,
            resolution=self.resolution * self.scale,
            clamp=self.clamp,
            noise=self.noise,
        )


class Superresolution(nn.Module):
    """Feature image -> image."""

    def __init__(self, config: SuperresolutionConfig) -> None:
        super().__init__()
        self.config = config
        self.block0 = SynthesisBlock(config.block0())
        self.block1 = SynthesisBlock(config.block1())

    @torch.no_grad()
    def make_constant(self, w: Tensor) -> None:
        """Change the first weights so that all-ones styles give the image that the style w [w_dim] gave.

        The styles of a layer are A w / sqrt(w_dim) + b; the bias takes up A (w - 1) / sqrt(w_dim).
        """
        for block in (self.block0, self.block1):
            for affine in (block.conv0.affine, block.conv1.affine, block.torgb.affine):
                shift = affine.weight.double() @ (w.double() - 1) / math.sqrt(len(w))
                affine.bias.add_(shift.to(affine.bias.dtype))

    def forward(
        self,
        rgb: Tensor,
        feature: Tensor,
        ws: Tensor | None = None,
        noise: str = "none",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The image at `scale` times the resolution.

        Args:
            rgb: [B, 3, h, w], the first three channels of `feature`, not clamped.
            feature: [B, C, h, w].
            ws: [B, any, w_dim], of which only the last w is used (by every layer); None: all ones (portrait models).
            noise: "none", "const" or "random"; see `SynthesisBlock`.
        Returns:
            [B, 3, 4n, 4n] (2n with scale 2), not clamped.
        """
        if ws is not None:
            ws = ws[:, -1:].expand(-1, 3, -1)
        rgb, feature = resize(rgb, self.config.resolution), resize(feature, self.config.resolution)
        x, rgb = self.block0(feature, rgb, ws, noise, generator)
        return self.block1(x, rgb, ws, noise, generator)[1]


def is_untrained(state: Mapping[str, Tensor]) -> bool:
    """Whether no step has trained the weights of a `Superresolution`: every bias has its first value."""
    return all(
        bool((value == float(".affine." in name)).all()) for name, value in state.items() if name.endswith(".bias")
    )


def as_upscaling(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with a ToRGB that adds nothing: the image is the rendered colours, upscaled."""
    return {name: torch.zeros_like(value) if name in _TO_RGB else value for name, value in state.items()}


def is_upscaling(state: Mapping[str, Tensor]) -> bool:
    """Whether weights are those of `as_upscaling`."""
    return all(name in state and not bool(state[name].any()) for name in _TO_RGB)
