"""MotionAdapter: PNCCs of the canonical, source and driving face -> residual plane P_diff (paper, MA).

See docs/spec/head.md#4.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.layers.initial import keep_scale
from modules.layers.segformer import MiT, MiTConfig
from modules.layers.stylegan import ConvLayer
from modules.portrait.driving import PNCC_NAMES
from modules.portrait.image_to_plane import flip_planes

FIRST_PLANES = 0.1  # size of P_diff before training, as a share of the features it is made of


@dataclass(frozen=True, kw_only=True)
class MotionAdapterConfig:
    """Defaults are the released model (scale b0, 5.7 M parameters); S is the input's size."""

    input_size: int = 512  # S, pixels; planes are S/2
    pncc_inputs: tuple[str, ...] = ("canonical", "source", "driving")  # K of them, see `PNCCInputs`
    plane_channels: int = 32  # C
    plane_depth: int = 1  # D, slices of a tri-grid
    encoder: MiTConfig = field(default_factory=MiTConfig)
    fuse_channels: int = 256
    fuse_dropout: float = 0.1  # of channels, in training

    def __post_init__(self) -> None:
        if self.input_size % 32:
            raise ValueError(f"input_size is {self.input_size}; it must be divisible by 32")
        if not self.pncc_inputs or not set(self.pncc_inputs) <= set(PNCC_NAMES):
            raise ValueError(
                f"pncc_inputs are {', '.join(self.pncc_inputs) or 'none'}; use some of {', '.join(PNCC_NAMES)}"
            )

    @classmethod
    def full(cls, scale: str = "b0") -> "MotionAdapterConfig":
        """The original's sizes with one of the MiT scales b0 (released) ... b5."""
        return cls(encoder=MiTConfig.scale(scale))

    @classmethod
    def demo(cls) -> "MotionAdapterConfig":
        """128 -> planes of 24 x 64 x 64; small enough to train on a CPU."""
        encoder = MiTConfig(
            in_channels=3, widths=(16, 32, 64, 96), heads=(1, 2, 4, 4), depths=(1, 1, 1, 1), drop_path=0.0
        )
        return cls(input_size=128, plane_channels=24, encoder=encoder, fuse_channels=64, fuse_dropout=0.0)


class ChannelLinear(nn.Module):
    """Linear layer over the channels of a map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.movedim(1, -1)).movedim(-1, 1)


class ConvNorm(nn.Module):
    """1x1 convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class FuseHead(nn.Module):
    """SegFormer's head: the maps of all stages at the size of the first, joined."""

    def __init__(self, config: MotionAdapterConfig) -> None:
        super().__init__()
        for stage, width in reversed(list(enumerate(config.encoder.widths))):
            self.add_module(f"linear_c{stage + 1}", ChannelLinear(width, config.fuse_channels))
        self.linear_fuse = ConvNorm(len(config.encoder.widths) * config.fuse_channels, config.fuse_channels)
        self.dropout = nn.Dropout2d(config.fuse_dropout)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of the stages, largest first -> [B, fuse_channels, h, w] of the first."""
        size = maps[0].shape[-2:]
        parts = []
        for stage in range(len(maps), 0, -1):
            x = self.get_submodule(f"linear_c{stage}")(maps[stage - 1])
            parts.append(x if stage == 1 else F.interpolate(x, size, mode="bilinear", align_corners=False))
        return self.dropout(self.linear_fuse(torch.cat(parts, dim=1)))


class MotionAdapter(nn.Module):
    """PNCCs -> P_diff, to be added to (or multiplied with) the canonical planes."""

    def __init__(self, config: MotionAdapterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.fuse_channels
        self.prenet = ConvLayer(3 * len(config.pncc_inputs), config.encoder.in_channels, 1)
        self.mix_vit = MiT(config.encoder)
        self.fuse_head = FuseHead(config)
        self.to_plane_cnn = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width, 3 * config.plane_channels * config.plane_depth, 3, padding=1),
        )
        keep_scale(self.to_plane_cnn)
        *_, last_weight, _ = self.to_plane_cnn.parameters()
        nn.init.normal_(last_weight, std=FIRST_PLANES / (3 * width**0.5))  # start near P_cano alone

    def init_for_product(self) -> None:
        """First weights that make P_diff about 1, for planes that are P_cano times P_diff."""
        *_, last_bias = self.to_plane_cnn.parameters()
        nn.init.ones_(last_bias)

    def forward(self, pncc: Tensor) -> Tensor:
        """Predict the residual planes.

        Args:
            pncc: [B, K, 3, S, S] in [-1, 1], the PNCCs `pncc_inputs`, all without pose; S divisible by 32.
        Returns:
            [B, 3, C*D, S/2, S/2], channel c*D + d.
        """
        size, count = pncc.shape[-1], len(self.config.pncc_inputs)
        if pncc.ndim != 5 or size % 32 or pncc.shape[1:] != (count, 3, size, size):
            raise ValueError(f"PNCC of shape {tuple(pncc.shape)}; expected [B, {count}, 3, S, S], S a multiple of 32")
        x = self.prenet(rearrange(pncc, "b k c h w -> b (k c) h w").contiguous(memory_format=torch.channels_last))
        planes = self.to_plane_cnn(self.fuse_head(self.mix_vit(x)))
        return flip_planes(rearrange(planes, "b (p c) h w -> b p c h w", p=3))
