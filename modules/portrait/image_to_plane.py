"""ImageToPlane: one image of a head -> canonical tri-plane P_cano (paper, section on the I2P model; LP3D's design).

A low-resolution branch (dilated ResNet, atrous pyramid, transformer) sees the whole head; a convolution branch at half
the input's resolution keeps detail; a predictor with a second transformer joins both into planes.
See docs/spec/head.md#3.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.layers.initial import keep_scale
from modules.layers.segformer import Block, BlockConfig, PatchEmbed, initialise, to_map

_LEAST_WIDTH = 8  # narrower strided convolutions write past their memory without AVX-512 (oneDNN issue 6035)
# Blocks of the low-resolution transformer and of the predictor, by scale.
FULL_BLOCKS = {"small": (2, 1), "standard": (5, 1), "large": (10, 3), "paper_small": (3, 1), "paper_large": (14, 4)}
DEMO_BLOCKS = {"small": (1, 1), "standard": (3, 1), "large": (6, 3), "paper_small": (2, 1), "paper_large": (8, 4)}
INPUT_MODES = {"rgb": 5, "rgb_alpha": 6, "rgb_camera": 8, "rgb_alpha_camera": 9}  # channels with the coordinates


@dataclass(frozen=True, kw_only=True)
class ImageToPlaneConfig:
    """Defaults are the released model ("standard" scale, 87.3 M parameters); S is the input's size."""

    input_size: int = 512  # S, pixels; planes are S/2
    input_mode: str = "rgb"  # one of INPUT_MODES
    plane_channels: int = 32  # C
    plane_depth: int = 1  # D, slices of a tri-grid
    encoder_widths: tuple[int, ...] = (64, 128, 256, 512)  # of the four ResNet layers; output at S/8
    encoder_blocks: tuple[int, ...] = (3, 4, 6, 3)
    pyramid_channels: int = 256
    pyramid_dilations: tuple[int, ...] = (12, 24, 36)
    pyramid_dropout: float = 0.5  # in training
    vit_width: int = 1024  # tokens at S/16
    vit_blocks: int = 5
    vit_heads: int = 4
    vit_channels: int = 128  # of the convolutions after the transformer
    low_channels: int = 96  # of the low-resolution branch's output, at S/2
    high_first: int = 64
    high_channels: int = 96  # of the high-resolution branch, at S/2
    high_layers: int = 4
    predictor_channels: tuple[int, int] = (256, 128)  # before and after the predictor's transformer
    predictor_width: int = 1024  # tokens at S/4
    predictor_blocks: int = 1
    predictor_heads: int = 4
    predictor_reduction: int = 2  # of keys and values
    mlp_ratio: float = 2.0

    def __post_init__(self) -> None:
        if self.input_mode not in INPUT_MODES:
            raise ValueError(f"input_mode {self.input_mode!r} is not one of {', '.join(INPUT_MODES)}")
        if self.input_size % 16:
            raise ValueError(f"input_size is {self.input_size}; it must be divisible by 16")
        if len(self.encoder_widths) != 4 or len(self.encoder_blocks) != 4:
            raise ValueError(
                "encoder_widths and encoder_blocks must have 4 entries each, not "
                f"{len(self.encoder_widths)} and {len(self.encoder_blocks)}"
            )
        if min(self.encoder_widths) < _LEAST_WIDTH:
            raise ValueError(
                f"encoder_widths are {list(self.encoder_widths)}; each must be at least {_LEAST_WIDTH}: "
                "narrower strided convolutions crash on processors without AVX-512"
            )
        for name in ("vit_width", "predictor_width"):
            if getattr(self, name) % 4:
                raise ValueError(f"{name} is {getattr(self, name)}; pixel shuffle needs a multiple of 4")

    @classmethod
    def full(cls, scale: str = "standard") -> "ImageToPlaneConfig":
        """The original's scales: small (62 M parameters), standard (87 M, released), large (155 M).

        The paper's ablation has 40, 87 and 200 M, and does not say how: paper_small (39.9 M) has narrower tokens and
        fewer blocks, paper_large (201.0 M) more blocks.
        """
        transformer, predictor = _blocks(scale, FULL_BLOCKS)
        width = 512 if scale == "paper_small" else 1024
        return cls(vit_blocks=transformer, predictor_blocks=predictor, vit_width=width, predictor_width=width)

    @classmethod
    def demo(cls, scale: str = "standard") -> "ImageToPlaneConfig":
        """192 -> planes of 24 x 96 x 96; small enough to train on a CPU."""
        transformer, predictor = _blocks(scale, DEMO_BLOCKS)
        half = scale == "paper_small"
        return cls(
            input_size=192,
            plane_channels=24,
            encoder_widths=(16, 32, 64, 128),
            encoder_blocks=(2, 2, 2, 1),
            pyramid_channels=64,
            pyramid_dilations=(2, 4, 6),
            pyramid_dropout=0.0,
            vit_width=96 if half else 192,
            vit_blocks=transformer,
            vit_channels=24,
            low_channels=16,
            high_first=16,
            high_channels=16,
            high_layers=2,
            predictor_channels=(32, 24),
            predictor_width=32 if half else 64,
            predictor_blocks=predictor,
            predictor_reduction=4,
        )


def _blocks(scale: str, choices: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Blocks of the low-resolution transformer and of the predictor."""
    if scale not in choices:
        raise ValueError(f"scale {scale!r} is not one of {', '.join(choices)}")
    return choices[scale]


def coordinate_channels(image: Tensor) -> Tensor:
    """[B, 2, S, S]: row index / S and column index / S, in [0, 1)."""
    size = image.shape[-1]
    steps = torch.arange(size, device=image.device, dtype=image.dtype) / size
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([rows, columns]).expand(image.shape[0], -1, -1, -1)


def flip_planes(planes: Tensor) -> Tensor:
    """From image orientation to the world's axes: all planes [B, 3, C, H, W] upside down, the third also mirrored."""
    planes = planes.flip(-2)
    return torch.cat([planes[:, :2], planes[:, 2:].flip(-1)], dim=1)


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _upsample_aligned(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class BasicBlock(nn.Module):
    """Residual block of ResNet-18/34, with dilation."""

    def __init__(self, in_channels: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class DilatedResNet(nn.Module):
    """ResNet whose last two layers dilate instead of striding: [B, I, S, S] -> [B, width, S/8, S/8]."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        super().__init__()
        channels = config.encoder_widths[0]
        self.conv1 = nn.Conv2d(INPUT_MODES[config.input_mode], channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for index, (stride, dilation) in enumerate(((1, 1), (2, 1), (1, 2), (1, 4))):
            width = config.encoder_widths[index]
            blocks = [
                BasicBlock(channels if i == 0 else width, width, stride if i == 0 else 1, dilation)
                for i in range(config.encoder_blocks[index])
            ]
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            channels = width

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for index in range(1, 5):
            x = self.get_submodule(f"layer{index}")(x)
        return x


class AtrousPyramid(nn.Module):
    """Convolutions at several dilations and a global mean, joined (DeepLab v3), without norms and biases."""

    def __init__(self, in_channels: int, config: ImageToPlaneConfig) -> None:
        super().__init__()
        channels = config.pyramid_channels
        self.convs = nn.ModuleList([nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.ReLU())])
        for dilation in config.pyramid_dilations:
            conv = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
            self.convs.append(nn.Sequential(conv, nn.ReLU()))
        self.convs.append(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1, bias=False), nn.ReLU())
        )
        self.project = nn.Sequential(
            nn.Conv2d(len(self.convs) * channels, channels, 1, bias=False),
            nn.ReLU(),
            nn.Dropout(config.pyramid_dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [conv(x) for conv in self.convs]
        parts[-1] = parts[-1].expand_as(parts[0])
        return self.project(torch.cat(parts, dim=1))


class LowResolutionEncoder(nn.Module):
    """[B, I, S, S] -> [B, pyramid_channels, S/8, S/8]."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        super().__init__()
        channels = config.pyramid_channels
        self.encoder = DilatedResNet(config)
        self.decoder = nn.Sequential(
            AtrousPyramid(config.encoder_widths[-1], config), nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class NumberedBlocks(nn.Module):
    """Base of the two transformers: a patch embedding and blocks named block1, block2, ..."""

    def __init__(self, in_channels: int, blocks: int, config: BlockConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, config.width, 3, stride=2)
        self.names = tuple(f"block{index + 1}" for index in range(blocks))
        for name in self.names:
            self.add_module(name, Block(config))

    def transform(self, x: Tensor) -> Tensor:
        """[B, I, h, w] -> [B, width/4, h, w]: tokens at half the size, blocks, pixel shuffle back."""
        tokens, height = self.patch_embed(x)
        for name in self.names:
            tokens = self.get_submodule(name)(tokens, height)
        return F.pixel_shuffle(to_map(tokens, height), 2)


class LowResolutionTransformer(NumberedBlocks):
    """[B, pyramid_channels, S/8, S/8] -> [B, low_channels, S/2, S/2]."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        super().__init__(
            config.pyramid_channels,
            config.vit_blocks,
            BlockConfig(width=config.vit_width, heads=config.vit_heads, mlp_ratio=config.mlp_ratio, norm_eps=1e-5),
        )
        self.conv_after_upsample1 = _conv3(config.vit_width // 4, config.vit_channels)
        self.conv_after_upsample2 = _conv3(config.vit_channels, config.vit_channels)
        self.final_conv = _conv3(config.vit_channels, config.low_channels)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transform(x)
        x = F.relu(self.conv_after_upsample1(_upsample_aligned(x)))
        x = F.relu(self.conv_after_upsample2(_upsample_aligned(x)))
        return self.final_conv(x)


class HighResolutionEncoder(nn.Module):
    """[B, I, S, S] -> [B, high_channels, S/2, S/2], a few convolutions."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        super().__init__()
        self.first = nn.Conv2d(INPUT_MODES[config.input_mode], config.high_first, 7, stride=2, padding=3)
        layers: list[nn.Module] = []
        for index in range(config.high_layers):
            layers += [
                _conv3(config.high_first if index == 0 else config.high_channels, config.high_channels),
                nn.LeakyReLU(0.01),
            ]
        self.conv_layers = nn.Sequential(*layers)
        self.final = _conv3(config.high_channels, config.high_channels)
        keep_scale(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.conv_layers(self.first(x)))  # no activation after `first`


class PlanePredictor(NumberedBlocks):
    """Low and high features at S/2 -> [B, 3*C*D, S/2, S/2], in image orientation."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        wide, narrow = config.predictor_channels
        super().__init__(
            narrow,
            config.predictor_blocks,
            BlockConfig(
                width=config.predictor_width,
                heads=config.predictor_heads,
                mlp_ratio=config.mlp_ratio,
                reduction=config.predictor_reduction,
                norm_eps=1e-5,
            ),
        )
        self.first_conv = _conv3(config.low_channels + config.high_channels, wide)
        self.second_conv = _conv3(wide, narrow)
        self.first_conv_after_cat = _conv3(config.predictor_width // 4 + config.low_channels, wide)
        self.second_conv_after_cat = _conv3(wide, narrow)
        self.third_conv_after_cat = _conv3(narrow, narrow)
        self.apply(initialise)
        self.final_conv = _conv3(narrow, 3 * config.plane_channels * config.plane_depth)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        x = F.leaky_relu(self.first_conv(torch.cat([low, high], dim=1)), 0.01)
        x = F.leaky_relu(self.second_conv(x), 0.01)
        x = torch.cat([self.transform(x), low], dim=1)
        for conv in (self.first_conv_after_cat, self.second_conv_after_cat, self.third_conv_after_cat):
            x = F.leaky_relu(conv(x), 0.01)
        return self.final_conv(x)


class ImageToPlane(nn.Module):
    """Image of a head -> canonical planes P_cano (paper, image-to-plane model)."""

    def __init__(self, config: ImageToPlaneConfig) -> None:
        super().__init__()
        self.config = config
        self.low_reso_encoder = LowResolutionEncoder(config)
        self.low_reso_vit = LowResolutionTransformer(config)
        self.high_reso_encoder = HighResolutionEncoder(config)
        self.triplane_predictor_vit = PlanePredictor(config)
        if "camera" in config.input_mode:
            self.camera_to_channel = nn.Linear(25, 3)

    def forward(self, image: Tensor, alpha: Tensor | None = None, camera: Tensor | None = None) -> Tensor:
        """Predict planes.

        Args:
            image: [B, 3, S, S] in [-1, 1], background -1; S divisible by 16.
            alpha: [B, 1, S, S], for the alpha modes; None: where the image is not black.
            camera: [B, 25], for the camera modes (see `Camera.vector`).
        Returns:
            [B, 3, C*D, S/2, S/2], channel c*D + d.
        """
        x = self.network_input(image, alpha, camera)
        low = self.low_reso_vit(self.low_reso_encoder(x))
        planes = self.triplane_predictor_vit(low, self.high_reso_encoder(x))
        return flip_planes(rearrange(planes, "b (p c) h w -> b p c h w", p=3))

    def network_input(self, image: Tensor, alpha: Tensor | None = None, camera: Tensor | None = None) -> Tensor:
        """The image with the channels of the input mode, [B, 5 to 9, S, S]; arguments as in `forward`."""
        height, width = image.shape[-2:]
        if height != width or height % 16:
            raise ValueError(f"the picture is {width}x{height}; it must be square with a side divisible by 16")
        parts = [image]
        if "alpha" in self.config.input_mode:
            if alpha is None:
                alpha = image.mean(dim=1, keepdim=True) >= -0.999
            parts.append(alpha.to(image.dtype))
        if "camera" in self.config.input_mode:
            if camera is None:
                raise ValueError(f"input_mode {self.config.input_mode} needs the camera of the picture")
            channels = self.camera_to_channel(camera.to(image.dtype))
            parts.append(channels[:, :, None, None].expand(-1, -1, height, width).to(image.dtype))
        x = torch.cat([*parts, coordinate_channels(image)], dim=1)
        return x.contiguous(memory_format=torch.channels_last)  # a quarter faster on the CPU
