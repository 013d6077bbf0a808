"""Dual discriminator: judges the final image together with the enlarged neural render, given the camera.

EG3D's paper, 4.3; see docs/spec/sr_torso_eg3d.md#9.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modules.geometry.camera import Camera
from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.layers.stylegan import (
    ConvLayer,
    FullyConnected,
    MappingNetwork,
    MappingNetworkConfig,
    minibatch_std,
)

# Spread of the 25 camera numbers over the training set; stands in for the batch's own when the batch is one sample.
# fmt: off
CAMERA_STD = (0.0664, 0.0295, 0.2720, 0.6971, 0.0279, 0.0178, 0.1280, 0.3284, 0.2721, 0.1274, 0.0679, 0.1642,
              0, 0, 0, 0, 0.0079, 0, 0, 0, 0.0079, 0, 0, 0, 0)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class DualDiscriminatorConfig:
    """Sizes of the discriminator; the defaults are the released one (31.4 M parameters)."""

    resolution: int = 512  # pixels a side of the image, a power of two
    base_channels: int = 32768  # channels at resolution r: min(base_channels / r, max_channels)
    max_channels: int = 512
    camera_dim: int = 25
    mapping_layers: int = 8
    group_size: int = 2  # minibatch standard deviation; 4 in EG3D
    clamp: float | None = 256.0  # limit of the activations
    pose_noise: float = 1.0  # standard deviation of the camera noise, in those of the cameras; EG3D: 0

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"discriminator resolution {self.resolution}; use a power of two from 8")
        if self.base_channels // self.resolution < 1:
            raise ValueError(f"base_channels {self.base_channels} leaves no channel at {self.resolution} pixels")

    @classmethod
    def full(cls) -> "DualDiscriminatorConfig":
        """512-pixel images, 128-pixel renders."""
        return cls()

    @classmethod
    def demo(cls) -> "DualDiscriminatorConfig":
        """256-pixel images, 64-pixel renders, one CPU core."""
        return cls(resolution=256, base_channels=4096, max_channels=64, mapping_layers=2)

    def channels(self, resolution: int) -> int:
        """Width of the block that works at `resolution`."""
        return min(self.base_channels // resolution, self.max_channels)


@dataclass(frozen=True)
class DualView:
    """What the discriminator sees: image [B, 3, R, R] and image_raw [B, 3, r, r] in [-1, 1], and the camera."""

    image: Tensor
    image_raw: Tensor
    camera: Camera

    def detach(self) -> "DualView":
        """The same view without gradients."""
        return DualView(self.image.detach(), self.image_raw.detach(), self.camera)


def perturb_cameras(camera: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Camera numbers [B, 25] plus noise [B, 25] scaled to `strength` times their spread over the batch."""
    if camera.shape[0] > 1:
        spread = camera.std(dim=0)
    else:
        spread = camera.new_tensor(CAMERA_STD)
    return camera + noise.to(camera) * spread * strength


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution; the first also turns the six image channels into features."""

    def __init__(self, config: DualDiscriminatorConfig, resolution: int) -> None:
        super().__init__()
        width, narrower = config.channels(resolution), config.channels(resolution // 2)
        if resolution == config.resolution:
            self.fromrgb = ConvLayer(6, width, 1, activation="lrelu", clamp=config.clamp)
        self.skip = ConvLayer(width, narrower, 1, down=2, bias=False)
        self.conv0 = ConvLayer(width, width, 3, activation="lrelu", clamp=config.clamp)
        self.conv1 = ConvLayer(width, narrower, 3, activation="lrelu", down=2, clamp=config.clamp)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 6 or C, R, R] -> [B, C', R/2, R/2]."""
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        skip = self.skip(x, gain=math.sqrt(0.5))
        return skip + self.conv1(self.conv0(x), gain=math.sqrt(0.5))


class DiscriminatorEpilogue(nn.Module):
    """Features at 4x4 and the mapped camera -> logit."""

    def __init__(self, config: DualDiscriminatorConfig) -> None:
        super().__init__()
        width = config.channels(4)
        self.group_size = config.group_size
        self.conv = ConvLayer(width + 1, width, 3, activation="lrelu", clamp=config.clamp)
        self.fc = FullyConnected(width * 16, width, "lrelu")
        self.out = FullyConnected(width, width)

    def forward(self, x: Tensor, camera_map: Tensor) -> Tensor:
        """x [B, C, 4, 4], camera_map [B, C] -> [B, 1]."""
        x = self.conv(torch.cat([x, minibatch_std(x, self.group_size)], dim=1))
        x = self.out(self.fc(x.flatten(1)))
        return (x * camera_map).sum(dim=1, keepdim=True) / math.sqrt(x.shape[1])


class DualDiscriminator(nn.Module):
    """Final image, neural render and camera -> logit (projection onto the mapped camera)."""

    def __init__(self, config: DualDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        size = config.resolution
        while size > 4:
            self.add_module(f"b{size}", DiscriminatorBlock(config, size))
            size //= 2
        self.b4 = DiscriminatorEpilogue(config)
        self.mapping = MappingNetwork(
            MappingNetworkConfig(
                z_dim=0,
                c_dim=config.camera_dim,
                w_dim=config.channels(4),
                num_layers=config.mapping_layers,
                num_ws=None,
                average=False,
            )
        )

    def forward(
        self, image: Tensor, image_raw: Tensor, camera: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Logits [B, 1]; above 0 reads "real".

        Args:
            image: [B, 3, R, R], limited to [-1, 1] here.
            image_raw: [B, 3, r, r], the neural render (or the real image made as small); enlarged to R.
            camera: [B, 25]: 16 numbers camera-to-world, 9 numbers intrinsics.
            generator: source of the pose noise, drawn on the CPU; None: no noise.
        """
        pair = torch.cat([image, resize(image_raw, self.config.resolution)], dim=1)
        x = pair.clamp(-1, 1)
        if generator is not None and self.config.pose_noise > 0:
            noise = torch.randn(camera.shape, generator=generator)
            camera = perturb_cameras(camera, noise, self.config.pose_noise)
        size = self.config.resolution
        while size > 4:
            x = self.get_submodule(f"b{size}")(x)
            size //= 2
        camera_map = self.mapping(None, camera.to(parameter_dtype(self.mapping)))
        return self.b4(x, camera_map.to(x.dtype))
