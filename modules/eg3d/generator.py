"""The EG3D generator (Chan et al. 2022), frozen teacher of the image-to-plane model.

Latent -> tri-plane -> image (paper, image-to-plane model; docs/spec/sr_torso_eg3d.md#7).
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from modules.geometry.camera import Camera
from modules.layers.stylegan import MappingNetwork, MappingNetworkConfig, SynthesisBlock, SynthesisBlockConfig
from modules.rendering.renderer import RendererConfig, VolumeRenderer
from modules.rendering.superresolution import Superresolution, SuperresolutionConfig


@dataclass(frozen=True, kw_only=True)
class EG3DConfig:
    """Sizes and switches of a generator; the defaults are the released FFHQ 512-128 model."""

    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    camera_scale: float = 1.0  # of the conditioning camera's numbers; 0: not conditioned
    plane_resolution: int = 256  # a power of two
    base_channels: int = 32768  # channels at resolution r: min(base_channels / r, max_channels)
    max_channels: int = 512
    backbone_clamp: float | None = None
    renderer: RendererConfig = field(
        default_factory=lambda: RendererConfig(fixed_limits=(2.25, 3.3), missing_rays="official")
    )
    superresolution: SuperresolutionConfig = field(default_factory=lambda: SuperresolutionConfig(clamp=256.0))
    superresolution_noise: str = "none"
    superresolution_styles: str = "mapped"  # or "ones": constant styles, as in the portrait project's copy
    neural_resolution: int = 128
    clamp_images: bool = False  # limit images to [-1, 1], as in the portrait project's copy

    def __post_init__(self) -> None:
        if self.plane_resolution < 8 or self.plane_resolution & (self.plane_resolution - 1):
            raise ValueError(f"plane resolution {self.plane_resolution}; use a power of two from 8")
        if self.neural_resolution < 1:
            raise ValueError(f"neural resolution {self.neural_resolution}; use at least 1")
        if self.superresolution_styles not in ("mapped", "ones"):
            raise ValueError(f"superresolution_styles {self.superresolution_styles!r}; use mapped or ones")

    @classmethod
    def full(cls) -> "EG3DConfig":
        """The released FFHQ model (30.7 M parameters)."""
        return cls()

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, ... plane_resolution."""
        return tuple(4 << k for k in range(self.plane_resolution.bit_length() - 2))

    @property
    def num_ws(self) -> int:
        """Styles of the backbone: one per convolution and a last one for the last toRGB."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Width of the block at `resolution`."""
        return min(self.base_channels // resolution, self.max_channels)


@dataclass(frozen=True)
class EG3DOutput:
    """B samples, each seen from a camera."""

    image: Tensor  # [B, 3, S, S] in about [-1, 1], S = resolution times scale of the super-resolution
    image_raw: Tensor  # [B, 3, n, n] in about [-1, 1]
    feature: Tensor  # [B, C, n, n]; image_raw is its first three channels
    depth: Tensor  # [B, 1, n, n] world units along the ray
    weights: Tensor  # [B, 1, n, n] in [0, 1], share of a ray that met matter


class SynthesisNetwork(nn.Module):
    """Styles -> plane image: StyleGAN2's blocks from 4x4 upwards."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.resolutions = config.resolutions
        for resolution in self.resolutions:
            first = resolution == self.resolutions[0]
            self.add_module(
                f"b{resolution}",
                SynthesisBlock(
                    SynthesisBlockConfig(
                        in_channels=0 if first else config.channels(resolution // 2),
                        out_channels=config.channels(resolution),
                        resolution=resolution,
                        w_dim=config.w_dim,
                        image_channels=3 * config.renderer.plane_channels,
                        clamp=config.backbone_clamp,
                    )
                ),
            )

    def forward(self, ws: Tensor, noise: str = "const", generator: torch.Generator | None = None) -> Tensor:
        """ws [B, num_ws, w_dim] -> [B, 3*C, R, R]. A toRGB shares its w with the next block's first convolution."""
        x, image, start = None, None, 0
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            x, image = block(x, image, ws[:, start : start + block.num_ws], noise, generator)
            start += block.num_ws - 1
        return image


class Backbone(nn.Module):
    """Mapping and synthesis, named as in the released files."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.mapping = MappingNetwork(
            MappingNetworkConfig(
                z_dim=config.z_dim, w_dim=config.w_dim, num_layers=config.mapping_layers, num_ws=config.num_ws
            )
        )
        self.synthesis = SynthesisNetwork(config)


class EG3DGenerator(nn.Module):
    """Samples people from latents and renders them from any camera."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.renderer = VolumeRenderer(config.renderer)
        self.superresolution = Superresolution(config.superresolution)

    def styles(
        self, z: Tensor, conditioning: Camera, truncation_psi: float = 0.7, truncation_cutoff: int | None = None
    ) -> Tensor:
        """Styles of latents under conditioning cameras, truncated towards the mean style.

        Args:
            z: [B, z_dim] standard normal.
            conditioning: B cameras.
            truncation_psi: 1 = none, 0 = the mean style.
            truncation_cutoff: number of styles that are truncated; None: all.
        Returns:
            ws [B, num_ws, w_dim].
        """
        camera = conditioning.vector() * self.config.camera_scale
        return self.backbone.mapping(z, camera, truncation_psi, truncation_cutoff)

    def planes(self, ws: Tensor, noise: str = "const", generator: torch.Generator | None = None) -> Tensor:
        """ws [B, num_ws, w_dim] -> tri-planes [B, 3, C, R, R]; noise "none", "const" or "random"."""
        return rearrange(self.backbone.synthesis(ws, noise, generator), "b (p c) h w -> b p c h w", p=3)

    def render(
        self,
        planes: Tensor,
        ws: Tensor,
        camera: Camera,
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> EG3DOutput:
        """Render each sample from its camera.

        Args:
            planes: [B, 3, C, R, R] from `planes`.
            ws: [B, num_ws, w_dim]; styles of the super-resolution.
            camera: B cameras.
            resolution: n, rays a side; default the config's `neural_resolution`.
            generator: for the samples along the rays and the noise; None: the same samples every time.
        """
        rendering = self.renderer(planes, camera, resolution or self.config.neural_resolution, generator)
        return self.finish(rendering.feature, rendering.depth, rendering.weights, ws, generator)

    def finish(
        self, feature: Tensor, depth: Tensor, weights: Tensor, ws: Tensor, generator: torch.Generator | None = None
    ) -> EG3DOutput:
        """Super-resolution of a rendered feature image [B, C, n, n] with depth and weights [B, 1, n, n]."""
        feature = feature.to(ws.dtype)
        image_raw = feature[:, :3]
        ws = ws if self.config.superresolution_styles == "mapped" else None
        image = self.superresolution(image_raw, feature, ws, self.config.superresolution_noise, generator)
        if self.config.clamp_images:
            image, image_raw = image.clamp(-1, 1), image_raw.clamp(-1, 1)
        return EG3DOutput(image, image_raw, feature, depth, weights)

    def forward(self, z: Tensor, conditioning: Camera, camera: Camera, truncation_psi: float = 0.7) -> EG3DOutput:
        """Latents [B, z_dim] under B conditioning cameras, rendered from `camera`.

        The noise is the stored one, and samples along rays are evenly spaced.
        """
        ws = self.styles(z, conditioning, truncation_psi)
        return self.render(self.planes(ws), ws, camera)
