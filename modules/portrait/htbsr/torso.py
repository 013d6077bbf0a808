"""Torso model: key points -> dense motion -> warped torso features -> torso image (paper, HTB-SR; face-vid2vid).

Sizes for an image of 4n pixels: torso image 2n, appearance volume D x n/2 x n/2. See docs/spec/sr_torso_eg3d.md#3.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from torch import Tensor, nn

from modules.analysis.segmentation_classes import TORSO_CLASSES
from modules.layers.initial import keep_scale
from modules.layers.precision import full_precision
from modules.layers.resample import resize
from modules.portrait.htbsr.blocks import (
    ConvNormAct,
    DownBlock,
    ResidualBlock,
    UpBlock,
    VolumeConv,
    depth_constant_conv,
    volume_conv,
)

KEYPOINTS = {4: (0, 8, 16, 27), 9: (0, 3, 6, 8, 10, 13, 16, 27, 33)}  # of the 68: jaw ends, chin, nose bridge, ...
HEAT_MAP_VARIANCE = 0.01
TEMPERATURE = 0.1  # of a learned key point's heat map


@dataclass(frozen=True, kw_only=True)
class TorsoConfig:
    """Sizes of the torso model; the defaults are the released one (48.4 M parameters)."""

    steering: str = "head_guided"  # the head image steers the torso (the original's v2); keypoints_only (v1)
    inputs: str = "rgb_alpha"  # torso image and its two class masks; rgb (always with keypoints_only)
    keypoint_source: str = "landmarks"  # of the face model; learned: detected on the frames by a network
    keypoints: int = 4  # 4 or 9 of the 68 landmarks; any number of learned ones
    image_size: int = 256  # 2n
    depth: int = 16  # D, slices of the appearance volume
    volume_channels: int = 32
    appearance_channels: int = 64  # after the first convolution; doubled by each of two down blocks
    appearance_blocks: int = 6
    compressed_channels: int = 4  # of the appearance seen by the motion field
    motion_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    motion_features: int = 32  # width of the motion field at full size
    head_channels: int = 32  # head encoder
    head_blocks: int = 3
    generator_channels: int = 256  # at n/2; a quarter of it at 2n
    generator_blocks: int = 6
    occlusion_channels: int = 32
    outer_kernel: int = 7  # first and last 2-D convolutions
    field_kernel: int = 7  # 3-D convolutions that fuse the head and weigh the motions
    map_kernel: int = 7  # 2-D convolutions to the occlusion maps
    mask_dilation: int = 7  # pixels at n/2; 0: the appearance is not masked
    motion_gradient: float = 0.1  # factor on gradients into the motion field
    detector_channels: tuple[int, ...] = (32, 64, 128, 256)  # of the learned key points' network, at n/2, n/4, ...

    def __post_init__(self) -> None:
        if self.steering not in ("head_guided", "keypoints_only"):
            raise ValueError(f"torso steering {self.steering!r}; use head_guided or keypoints_only")
        if self.inputs not in ("rgb", "rgb_alpha"):
            raise ValueError(f"torso inputs {self.inputs!r}; use rgb or rgb_alpha")
        if self.keypoint_source not in ("landmarks", "learned"):
            raise ValueError(f"keypoint_source {self.keypoint_source!r}; use landmarks or learned")
        if self.keypoints not in KEYPOINTS and (self.keypoint_source == "landmarks" or self.keypoints < 1):
            raise ValueError(f"{self.keypoints} key points; use {' or '.join(map(str, KEYPOINTS))}")
        learned = len(self.detector_channels) - 1 if self.keypoint_source == "learned" else 0
        halvings = max(len(self.motion_channels), learned)
        if self.volume_size % 2**halvings or self.image_size % 4:
            raise ValueError(f"a torso image of {self.image_size} pixels cannot be halved {2 + halvings} times")
        if self.generator_channels % 4:
            raise ValueError(f"generator_channels {self.generator_channels} is no multiple of 4")

    @classmethod
    def full(cls) -> "TorsoConfig":
        """The released model."""
        return cls()

    @classmethod
    def demo(cls) -> "TorsoConfig":
        """A small model of 256-pixel images, for one CPU core."""
        return cls(
            image_size=128,
            depth=8,
            volume_channels=16,
            appearance_channels=16,
            appearance_blocks=2,
            compressed_channels=2,
            motion_channels=(16, 32, 64, 128),
            motion_features=16,
            head_channels=16,
            head_blocks=1,
            generator_channels=64,
            generator_blocks=3,
            occlusion_channels=8,
            outer_kernel=5,
            field_kernel=3,
            mask_dilation=5,
            detector_channels=(8, 16, 32, 64),
        )

    @property
    def volume_size(self) -> int:
        """Pixels a side of a volume slice, n/2."""
        return self.image_size // 4

    @property
    def input_channels(self) -> int:
        """Channels of the torso input."""
        return 3 + len(TORSO_CLASSES) if self.inputs == "rgb_alpha" and self.steering == "head_guided" else 3

    @property
    def motion_inputs(self) -> int:
        """Channels entering the motion field: a heat map and a warped volume per motion."""
        return (self.keypoints + 1) * (1 + self.compressed_channels)

    @property
    def hidden_channels(self) -> int:
        """Channels of the hidden features at 2n."""
        return self.generator_channels // 4


@dataclass(frozen=True)
class TorsoSource:
    """Torso features that depend on the portrait alone."""

    appearance: Tensor  # [B, C, D, n/2, n/2], masked to the torso
    compressed: Tensor  # [B, 4, D, n/2, n/2]


@dataclass(frozen=True)
class TorsoOutput:
    """One torso image per frame."""

    image: Tensor  # [B, 3, 2n, 2n]
    hidden: Tensor  # [B, hidden_channels, 2n, 2n]
    occlusion: Tensor  # [B, 1, n/2, n/2] in [0, 1]; only regularised, the generator does not use it
    occlusion_2: Tensor  # [B, 1, 2n, 2n] in [0, 1]: where the torso covers the background
    deformation: Tensor  # [B, D, n/2, n/2, 3]: for each voxel the source point (x, y, z) in [-1, 1]


def select_keypoints(landmarks: Tensor, count: int) -> Tensor:
    """The `count` (4 or 9) of the 68 landmarks [B, 68, 3] that move the torso -> [B, count, 3]."""
    return landmarks[:, KEYPOINTS[count]]


def volume_grid(depth: int, size: int, like: Tensor) -> Tensor:
    """Voxel positions (x, y, z) in [-1, 1], both ends included -> float32 [D, H, W, 3] on the device of `like`."""
    z, y, x = (torch.linspace(-1, 1, n, device=like.device) for n in (depth, size, size))
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=-1)


def sample_volume(volume: Tensor, points: Tensor, padding: str) -> Tensor:
    """Trilinear samples of [B, C, D, H, W] at points [B, d, h, w, 3] (x, y, z); -1 and 1 are centres of end voxels."""
    sampled = F.grid_sample(volume.float(), points.float(), padding_mode=padding, align_corners=True)
    return sampled.to(volume.dtype)


def heat_maps(grid: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """Gaussians at the driving minus those at the source key points [B, K, 3] -> [B, K, D, H, W]."""

    def gaussian(points: Tensor) -> Tensor:
        distance = (grid - points[:, :, None, None, None]).square().sum(dim=-1)
        return torch.exp(-0.5 * distance / HEAT_MAP_VARIANCE)

    return gaussian(driving) - gaussian(source)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x, with its gradient multiplied by `factor`."""
    return x.detach() + factor * (x - x.detach()) if x.requires_grad else x


class KeypointDetector(nn.Module):
    """Frame [B, 3, any, any] in [-1, 1] -> unsupervised key points [B, K, 3] in [-1, 1].

    As in face-vid2vid, a key point is the mean position of a heat map over the volume; what it marks is learned from
    the images that it helps to generate.
    """

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        self.depth, self.size = config.depth, config.volume_size
        widths = config.detector_channels
        self.in_conv = ConvNormAct(3, widths[0], config.outer_kernel)
        self.down = nn.ModuleList([DownBlock(a, b) for a, b in zip(widths, widths[1:])])
        self.up = nn.ModuleList([UpBlock(b, a) for a, b in reversed(list(zip(widths, widths[1:])))])
        self.out_conv = nn.Conv2d(
            2 * widths[0], config.keypoints * config.depth, config.map_kernel, padding=config.map_kernel // 2
        )

    def forward(self, frame: Tensor) -> Tensor:
        first = x = self.in_conv(resize(frame, self.size))
        for block in (*self.down, *self.up):
            x = block(x)
        heat = self.out_conv(torch.cat([first, x], dim=1)).float()
        heat = rearrange(heat, "b (k d) h w -> b k (d h w)", d=self.depth) / TEMPERATURE
        grid = rearrange(volume_grid(self.depth, self.size, like=heat), "d h w c -> (d h w) c")
        return (heat.softmax(dim=-1)[..., None] * grid).sum(dim=-2).to(frame.dtype)


class AppearanceExtractor(nn.Module):
    """Torso input [B, 3 or 5, 2n, 2n] -> appearance volume [B, C, D, n/2, n/2]."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        width = config.appearance_channels
        self.depth = config.depth
        self.in_conv = ConvNormAct(config.input_channels, width, config.outer_kernel)
        self.down = nn.ModuleList([DownBlock(width, 2 * width), DownBlock(2 * width, 4 * width)])
        self.mid_conv = nn.Conv2d(4 * width, config.volume_channels * config.depth, 1)
        self.res = nn.ModuleList(
            [ResidualBlock(config.volume_channels, dims=3) for _ in range(config.appearance_blocks)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_conv(x)
        for block in self.down:
            x = block(x)
        x = rearrange(self.mid_conv(x), "b (c d) h w -> b c d h w", d=self.depth)
        for block in self.res:
            x = block(x)
        return x


class MotionFieldEstimator(nn.Module):
    """Key points and the compressed appearance (and the head, if it steers) -> deformation and two occlusion maps."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        self.config = config
        inputs, kernel = config.motion_inputs, config.field_kernel
        self.compress = VolumeConv(config.volume_channels + len(TORSO_CLASSES), config.compressed_channels, 1)
        widths = (inputs, *config.motion_channels)
        self.down = nn.ModuleList([DownBlock(a, b, dims=3) for a, b in zip(widths, widths[1:])])
        widths = (*reversed(config.motion_channels), config.motion_features)
        self.up = nn.ModuleList([UpBlock(a, b, dims=3) for a, b in zip(widths, widths[1:])])
        features = inputs + config.motion_features
        if config.steering == "head_guided":
            head = config.head_channels
            self.tgt_head_encoder = nn.Sequential(
                ConvNormAct(4, head, config.outer_kernel), *[ResidualBlock(head) for _ in range(config.head_blocks)]
            )
            self.tgt_head_fuser = VolumeConv(features + head, config.motion_features, kernel)
            features = config.motion_features
        self.mask_conv = VolumeConv(features, config.keypoints + 1, kernel)
        maps = features * config.depth
        self.occlusion_conv = nn.Conv2d(maps, 1, config.map_kernel, padding=config.map_kernel // 2)
        self.occlusion_conv2 = nn.Conv2d(maps, 1, config.map_kernel, padding=config.map_kernel // 2)

    def forward(
        self, compressed: Tensor, kp_source: Tensor, kp_driving: Tensor, head_image: Tensor, head_weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """compressed [B, 4, D, h, w], key points [B, K, 3], head [B, 3, 2n, 2n] and its weights [B, 1, 2n, 2n].

        Returns:
            Deformation [B, D, h, w, 3] (float32), occlusion and second occlusion [B, 1, h, w].
        """
        kp_source, kp_driving = kp_source.float(), kp_driving.float()
        grid = volume_grid(compressed.shape[2], compressed.shape[3], like=compressed)
        shifts = F.pad(kp_source - kp_driving, (0, 0, 1, 0))  # [B, K+1, 3], 0 for no motion
        u = self._motion_inputs(compressed, grid, shifts, heat_maps(grid, kp_source, kp_driving))
        x = u
        for block in (*self.down, *self.up):
            x = block(x)
        x = torch.cat([u, x], dim=1)
        if self.config.steering == "head_guided":
            x = self.fuse_head(x, head_image.detach(), head_weights.detach())
        masks = self.mask_conv(x).float().softmax(dim=1)  # [B, K+1, D, h, w]
        with full_precision():
            deformation = grid + einsum(masks, shifts, "b k d h w, b k c -> b d h w c")
        maps = rearrange(x, "b c d h w -> b (c d) h w")
        return deformation, self.occlusion_conv(maps).sigmoid(), self.occlusion_conv2(maps).sigmoid()

    def _motion_inputs(self, compressed: Tensor, grid: Tensor, shifts: Tensor, heat: Tensor) -> Tensor:
        """Heat map and warped appearance of every motion, [B, (K+1)*5, D, h, w]."""
        motions = grid + shifts[:, :, None, None, None]  # [B, K+1, D, h, w, 3]
        count = motions.shape[1]
        warped = sample_volume(
            repeat(compressed, "b c d h w -> (b k) c d h w", k=count),
            rearrange(motions, "b k d h w c -> (b k) d h w c"),
            padding="zeros",
        )
        warped = rearrange(warped, "(b k) c d h w -> b k c d h w", k=count)
        heat = F.pad(heat, (0, 0, 0, 0, 0, 0, 1, 0)).to(warped.dtype)  # no heat map for no motion
        return rearrange(torch.cat([heat[:, :, None], warped], dim=2), "b k c d h w -> b (k c) d h w")

    def fuse_head(self, x: Tensor, head_image: Tensor, head_weights: Tensor) -> Tensor:
        """Add the encoded head, the same at every depth, to the motion features [B, C, D, h, w]."""
        size = self.config.image_size
        head = resize(torch.cat([head_image, head_weights], dim=1), size // 2, antialias=False)
        head = resize(self.tgt_head_encoder(head), size // 4, antialias=False)  # [B, head, n/2, n/2]
        weight, channels = self.tgt_head_fuser.weight, x.shape[1]
        fused = volume_conv(x, weight[:, :channels], self.tgt_head_fuser.bias)
        return fused + depth_constant_conv(head, weight[:, channels:], x.shape[2])


class DeformGenerator(nn.Module):
    """Appearance volume and deformation -> torso image [B, 3, 2n, 2n] and hidden features [B, hidden, 2n, 2n]."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        width = config.generator_channels
        self.in_conv = ConvNormAct(config.volume_channels * config.depth, width, spectral=True, slope=0.2)
        self.mid_conv = nn.Conv2d(width, width, 1)
        self.res = nn.ModuleList([ResidualBlock(width, spectral=True) for _ in range(config.generator_blocks)])
        self.up = nn.ModuleList(
            [UpBlock(width, width // 2, spectral=True), UpBlock(width // 2, width // 4, spectral=True)]
        )
        self.out_conv = nn.Conv2d(width // 4, 3, config.outer_kernel, padding=config.outer_kernel // 2)

    def forward(self, appearance: Tensor, deformation: Tensor) -> tuple[Tensor, Tensor]:
        """appearance [B, C, D, h, w], deformation [B, D, h, w, 3] -> image, hidden features."""
        warped = sample_volume(appearance, deformation, padding="border")
        x = self.mid_conv(self.in_conv(rearrange(warped, "b c d h w -> b (c d) h w")))
        for block in (*self.res, *self.up):
            x = block(x)
        return self.out_conv(x), x


class TorsoModel(nn.Module):
    """The torso of a portrait, moved by key points."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        self.config = config
        self.keypoint_detector = KeypointDetector(config) if config.keypoint_source == "learned" else None
        self.appearance_extractor = AppearanceExtractor(config)
        self.motion_field_estimator = MotionFieldEstimator(config)
        self.deform_based_generator = DeformGenerator(config)
        width = config.occlusion_channels
        self.occlusion_2_predictor = nn.Sequential(
            nn.Conv2d(config.hidden_channels + 1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
            nn.Sigmoid(),
        )
        keep_scale(self.occlusion_2_predictor, slope=0.0)

    def encode_source(self, torso: Tensor, classes: Tensor) -> TorsoSource:
        """Compute the torso features of a portrait.

        Args:
            torso: [B, 3, 2n, 2n] in [-1, 1], the in-painted torso without the head, -1 elsewhere.
            classes: [B, 6, 4n, 4n], one-hot classes of the photo.
        """
        masks = classes[:, TORSO_CLASSES].to(torso.dtype)
        if self.config.input_channels > 3:
            torso = torch.cat([torso, resize(masks, self.config.image_size, antialias=False)], dim=1)
        appearance = self.appearance_extractor(torso)
        masks = resize(masks, self.config.volume_size, antialias=False)  # [B, 2, n/2, n/2]
        if self.config.mask_dilation:
            area = masks.sum(dim=1, keepdim=True)
            dilation = self.config.mask_dilation
            area = F.max_pool2d(area, dilation, stride=1, padding=dilation // 2)
            appearance = appearance * area[:, :, None]
        masks = repeat(masks, "b c h w -> b c d h w", d=self.config.depth)
        compressed = self.motion_field_estimator.compress(torch.cat([appearance, masks], dim=1))
        return TorsoSource(appearance, compressed)

    def forward(
        self, source: TorsoSource, kp_source: Tensor, kp_driving: Tensor, head_image: Tensor, head_weights: Tensor
    ) -> TorsoOutput:
        """The torso for each driving pose.

        Args:
            source: from `encode_source`; a single portrait serves all B frames.
            kp_source: [B or 1, K, 3], key points of the photo in [-1, 1] (x right, y down, z 0).
            kp_driving: [B, K, 3], those of the frames.
            head_image: [B, 3, 2n, 2n], the raw render enlarged (not differentiated; unused with keypoints_only).
            head_weights: [B, 1, 2n, 2n], its accumulated ray weights (same).
        """
        compressed = source.compressed.expand(len(kp_driving), -1, -1, -1, -1)
        motion = self.motion_field_estimator(
            compressed, kp_source.expand_as(kp_driving), kp_driving, head_image, head_weights
        )
        deformation, occlusion, coarse = (scale_gradient(x, self.config.motion_gradient) for x in motion)
        image, hidden = self.generate(source, deformation)
        coarse = resize(coarse, self.config.image_size, antialias=False)
        occlusion_2 = self.occlusion_2_predictor(torch.cat([hidden, coarse], dim=1))
        return TorsoOutput(image, hidden, occlusion, occlusion_2, deformation)

    def generate(self, source: TorsoSource, deformation: Tensor) -> tuple[Tensor, Tensor]:
        """Torso image [B, 3, 2n, 2n] and hidden features [B, hidden, 2n, 2n] of a deformation [B, D, n/2, n/2, 3]."""
        return self.deform_based_generator(source.appearance.expand(len(deformation), -1, -1, -1, -1), deformation)
