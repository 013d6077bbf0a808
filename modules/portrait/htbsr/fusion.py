"""HTB-SR: head over torso over background, then super-resolution to the final image (paper, HTB-SR model).

Names: n is the neural rendering resolution; features are fused at 2n and the final image has 4n pixels. With a
super-resolution by 2 the rendered image already has 2n. See docs/spec/sr_torso_eg3d.md#4.
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from modules.layers.initial import keep_scale
from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.layers.stylegan import SynthesisBlock, SynthesisBlockConfig
from modules.portrait.decoder import Decoded
from modules.portrait.htbsr.torso import TorsoConfig, TorsoModel, TorsoSource, select_keypoints
from modules.portrait.photo import Photo
from modules.rendering.renderer import RenderOutput
from modules.rendering.superresolution import SuperresolutionConfig

FUSIONS = ("blend", "head_weights", "predicted_alpha", "concat")


@dataclass(frozen=True, kw_only=True)
class HTBSRConfig:
    """Head-torso-background super-resolution; the defaults are the released model (55.0 M parameters)."""

    superresolution: SuperresolutionConfig = field(default_factory=SuperresolutionConfig)
    torso: TorsoConfig = field(default_factory=TorsoConfig)
    fusion: str = "head_weights"  # of head and torso features: blended by the head's ray weights and mixed by
    #                                 convolutions (the original's v2); by a predicted alpha (v3); blend: without
    #                                 convolutions (v1); concat: side by side (ablation)
    threshold: float = 0.9  # head weights above it count as 1 when the background is covered
    bottleneck: int = 64  # narrow layers of the background encoder and the last fusion
    fusion_channels: int = 256  # hidden width of the fusion convolutions and the background encoder
    alpha_channels: int = 32  # hidden width of the alpha predictor

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion {self.fusion!r}; use one of {', '.join(FUSIONS)}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} is outside [0, 1]")
        if self.torso.image_size != self.fused_size:
            raise ValueError(
                f"torso image of {self.torso.image_size} pixels; use half the final image's size, {self.fused_size}"
            )

    @classmethod
    def full(cls) -> "HTBSRConfig":
        """The released model: 512-pixel images."""
        return cls()

    @classmethod
    def demo(cls) -> "HTBSRConfig":
        """A small model of 256-pixel images, for one CPU core."""
        return cls(
            superresolution=SuperresolutionConfig.demo(),
            torso=TorsoConfig.demo(),
            bottleneck=16,
            fusion_channels=16,
            alpha_channels=8,
        )

    @property
    def fused_size(self) -> int:
        """Pixels a side at which head, torso and background meet (2n): half the final image."""
        return self.superresolution.resolution * self.superresolution.scale // 2

    @property
    def blends(self) -> bool:
        """Whether head and torso features go through their own convolutions and synthesis block."""
        return self.fusion in ("head_weights", "predicted_alpha")


@dataclass(frozen=True)
class SourceFeatures:
    """Features that depend on the portrait alone."""

    torso: TorsoSource
    background: Tensor  # [B, 3, 2n, 2n] in [-1, 1]
    background_half: Tensor  # [B, bottleneck, 2n, 2n]: encoded background through its half of the 1x1 fusion
    keypoints: Tensor  # [B, 68 or K, 3], of the photo, in [-1, 1]

    def __len__(self) -> int:
        return self.background.shape[0]


@dataclass(frozen=True)
class HTBSROutput(Decoded):
    """Final images and what the losses need; only alpha is clamped."""

    torso_image: Tensor  # [B, 3, 2n, 2n]
    occlusion: Tensor  # [B, 1, n/2, n/2] in [0, 1]
    occlusion_2: Tensor  # [B, 1, 2n, 2n] in [0, 1]: where the torso covers the background
    deformation: Tensor  # [B, D, n/2, n/2, 3]


def sharpen(weights: Tensor, threshold: float | Tensor) -> Tensor:
    """Weights above the threshold become 1."""
    return torch.where(weights > threshold, torch.ones_like(weights), weights)


def alpha_threshold(alpha: Tensor, threshold: float) -> Tensor:
    """The larger of the threshold and the 5 % quantile of the alphas above 0.05 (predicted_alpha in eval mode)."""
    visible = alpha[alpha > 0.05].float()
    if visible.numel() == 0:
        return alpha.new_tensor(threshold)
    rank = 0.05 * (visible.numel() - 1)
    ordered = visible.sort().values
    low, high = ordered[int(rank)], ordered[min(int(rank) + 1, visible.numel() - 1)]
    return torch.lerp(low, high, rank - int(rank)).clamp(min=threshold).to(alpha.dtype)


def _convs(widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """Convolutions with leaky ReLU (0.01) between them."""
    layers: list[nn.Module] = []
    for index, kernel in enumerate(kernels):
        layers += [nn.LeakyReLU(0.01, inplace=True)] if index else []
        layers += [nn.Conv2d(widths[index], widths[index + 1], kernel, padding=kernel // 2)]
    stack = nn.Sequential(*layers)
    keep_scale(stack)
    return stack


class HTBSR(nn.Module):
    """Head, torso and background of one portrait -> final image.

    `encode` once per portrait (or per training batch), `decode` per batch of frames: the decoder of stage 3.

    Args:
        torso_model: built from `config.torso`.
    """

    part = "htbsr"

    def __init__(self, config: HTBSRConfig, torso_model: TorsoModel) -> None:
        super().__init__()
        self.config = config
        sr, narrow, wide = config.superresolution, config.bottleneck, config.fusion_channels
        middle = sr.middle_channels
        self.block0 = SynthesisBlock(sr.block0())
        self.block1 = SynthesisBlock(sr.block1())
        self.torso_model = torso_model
        self.torso_encoder = nn.Sequential(nn.Conv2d(config.torso.hidden_channels, middle, 1))
        self.bg_encoder = _convs((3, narrow, wide, middle), (3, 3, 3))
        if config.blends:
            self.head_torso_alpha_predictor = _convs((7, config.alpha_channels, config.alpha_channels, 1), (3, 3, 3))
            self.fuse_head_torso_convs = _convs((2 * middle, wide, middle), (3, 3))
            self.head_torso_block = SynthesisBlock(
                SynthesisBlockConfig(
                    in_channels=middle,
                    out_channels=middle,
                    resolution=config.fused_size,
                    w_dim=sr.w_dim,
                    up=False,
                    clamp=sr.clamp,
                    noise=sr.noise,
                )
            )
        parts = 3 if config.fusion == "concat" else 2
        self.fuse_fg_bg_convs = _convs((parts * middle, narrow, wide, middle), (1, 3, 3))

    @property
    def resolution(self) -> int:
        """4n, pixels a side of the images."""
        return 2 * self.config.fused_size

    def encode(self, photo: Photo) -> SourceFeatures:
        """Everything that depends on the photo alone. Raises ValueError: the photo has no surroundings."""
        if photo.surroundings is None:
            raise ValueError("HTB-SR needs the photo's surroundings (torso, classes, background, key points)")
        around, size, dtype = photo.surroundings, self.resolution, parameter_dtype(self)
        classes = around.classes
        if classes.shape[-1] != size:
            classes = nn.functional.interpolate(classes.float(), (size, size), mode="nearest-exact")
        return self.encode_source(
            resize(around.torso, size).to(dtype),
            classes.to(dtype),
            resize(around.background, size).to(dtype),
            around.keypoints.to(dtype),
        )

    def decode(self, rendered: RenderOutput, source: SourceFeatures, keypoints: Tensor | None) -> HTBSROutput:
        """Images of B frames.

        Args:
            rendered: by the volume renderer.
            source: from `encode`, of batch B or 1.
            keypoints: [B, 68 or K, 3], see `keypoints`. Raises ValueError without them.
        """
        if keypoints is None:
            raise ValueError("HTB-SR needs key points of the frames; give them in Driving")
        dtype = parameter_dtype(self)
        feature = rendered.feature.to(dtype)
        return self(feature[:, :3], feature, rendered.weights.to(dtype), source, keypoints.to(dtype))

    def keypoints(self, landmarks: Tensor, frame: Tensor) -> Tensor:
        """Key points that move the torso in a frame, as `Surroundings` and `Driving` take it.

        Args:
            landmarks: [B, 68, 3] in [-1, 1] (x right, y down, z 0).
            frame: [B, 3, any, any] in [-1, 1], the whole frame.
        Returns:
            `landmarks`, or what the detector finds on the frame [B, K, 3] if the torso's key points are learned.
        """
        detector = self.torso_model.keypoint_detector
        return landmarks if detector is None else detector(frame.to(parameter_dtype(self)))

    def encode_source(self, torso: Tensor, classes: Tensor, background: Tensor, keypoints: Tensor) -> SourceFeatures:
        """Compute the features of a portrait.

        Args:
            torso: [B, 3, 4n, 4n] in [-1, 1], torso without head, in-painted.
            classes: [B, 6, 4n, 4n], one-hot classes of the photo (0 background ... 5 others).
            background: [B, 3, 4n, 4n] in [-1, 1], in-painted.
            keypoints: [B, 68, 3], landmarks of the photo in [-1, 1] (x right, y down, z 0); or [B, K, 3] of the
                detector where key points are learned.
        """
        size = self.config.fused_size
        background = resize(background, size)
        half = self._first_fusion(self.bg_encoder(background), last=True)
        torso_source = self.torso_model.encode_source(resize(torso, size), classes)
        return SourceFeatures(torso_source, background, half, keypoints)

    def forward(
        self,
        rgb: Tensor,
        feature: Tensor,
        weights: Tensor,
        source: SourceFeatures,
        kp_driving: Tensor,
        threshold: float | None = None,
    ) -> HTBSROutput:
        """Images for a batch of frames.

        Args:
            rgb: [B, 3, n, n], the first channels of the rendered feature image, not clamped.
            feature: [B, C, n, n].
            weights: [B, 1, n, n], accumulated ray weights in [0, 1] (not differentiated).
            source: from `encode_source`, of batch B or 1.
            kp_driving: [B, 68 or K, 3], key points of the frames, as those of `encode_source`.
            threshold: overrides the config's.
        """
        resolution, size = self.config.superresolution.resolution, self.config.fused_size
        rgb, feature = resize(rgb, resolution), resize(feature, resolution)
        head_image, weights = resize(rgb, size), resize(weights.detach(), size)
        x_head, rgb_head = self.block0(feature, rgb)
        torso = self.torso_model(
            source.torso, self._torso_points(source.keypoints), self._torso_points(kp_driving), head_image, weights
        )
        x_torso = self.torso_encoder(torso.hidden)
        threshold = self.config.threshold if threshold is None else threshold
        fused_rgb: Tensor | None = None  # concat fuses features alone
        if self.config.fusion == "concat":
            x = self._fuse_background(torch.cat([x_head, x_torso], dim=1), None, source)
        else:
            alpha, opaque = self._alpha(rgb_head, weights, torso.image, threshold)
            x, person_rgb = self._fuse_head_torso(alpha, (x_head, rgb_head), (x_torso, torso.image))
            cover = (torso.occlusion_2 + sharpen(alpha, opaque)).clamp(0, 1)
            fused_rgb = cover * person_rgb + (1 - cover) * source.background
            x = self._fuse_background(x, cover, source)
        return HTBSROutput(
            image=self.block1(x, fused_rgb)[1],
            alpha=self._cover(weights, torso.occlusion_2),
            torso_image=torso.image,
            occlusion=torso.occlusion,
            occlusion_2=torso.occlusion_2,
            deformation=torso.deformation,
        )

    def _cover(self, weights: Tensor, occlusion_2: Tensor) -> Tensor:
        """Cover of the background [B, 1, 4n, 4n] by the head's weights and the torso [B, 1, 2n, 2n]."""
        person = occlusion_2.float() + sharpen(weights.float(), self.config.threshold)
        return resize(person.clamp(0, 1), self.resolution)

    def _torso_points(self, points: Tensor) -> Tensor:
        """Key points [B, K, 3] that move the torso."""
        count = self.config.torso.keypoints
        if self.config.torso.keypoint_source == "landmarks":
            return select_keypoints(points, count)
        if points.shape[1] != count:
            raise ValueError(
                f"{points.shape[1]} key points; this model moves the torso by {count} that its detector "
                "finds on frames (`HTBSR.keypoints`)"
            )
        return points

    def _alpha(
        self, rgb_head: Tensor, weights: Tensor, torso_image: Tensor, threshold: float
    ) -> tuple[Tensor, float | Tensor]:
        """How much of each pixel is head [B, 1, 2n, 2n], and the threshold above which it counts as opaque."""
        if self.config.fusion != "predicted_alpha":
            return weights, threshold
        images = [(image.clamp(-1, 1) + 1) / 2 for image in (rgb_head, torso_image)]
        alpha = self.head_torso_alpha_predictor(torch.cat([images[0], weights, images[1]], dim=1)).sigmoid()
        alpha = torch.minimum(alpha, weights)
        return alpha, threshold if self.training else alpha_threshold(alpha, threshold)

    def _fuse_head_torso(
        self, alpha: Tensor, head: tuple[Tensor, Tensor], torso: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features and images of head and torso -> those of the person."""
        (x_head, rgb_head), (x_torso, rgb_torso) = head, torso
        rgb = alpha * rgb_head + (1 - alpha) * rgb_torso
        x_head, x_torso = alpha.to(x_head.dtype) * x_head, (1 - alpha).to(x_torso.dtype) * x_torso
        if not self.config.blends:
            return x_head + x_torso, rgb
        x = self.fuse_head_torso_convs(torch.cat([x_head, x_torso], dim=1))
        return self.head_torso_block(x, rgb)

    def _fuse_background(self, x: Tensor, cover: Tensor | None, source: SourceFeatures) -> Tensor:
        """Features of the person over those of the background (side by side when there is no cover).

        A 1x1 convolution commutes with the per-pixel factor 1 - cover, so the background's half is precomputed.
        """
        if cover is None:
            x = self._first_fusion(x) + source.background_half
        else:
            behind = (1 - cover).to(source.background_half.dtype) * source.background_half
            x = self._first_fusion(cover.to(x.dtype) * x) + behind
        return self.fuse_fg_bg_convs[1:](x)

    def _first_fusion(self, x: Tensor, last: bool = False) -> Tensor:
        """The 1x1 convolution of `fuse_fg_bg_convs` for its first (with bias) or last (without) channels alone."""
        conv, channels = cast(nn.Conv2d, self.fuse_fg_bg_convs[0]), x.shape[1]  # nn.Sequential says Module
        weight = conv.weight[:, -channels:] if last else conv.weight[:, :channels]
        return nn.functional.conv2d(x, weight, None if last else conv.bias)
