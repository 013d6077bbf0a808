"""VolumeRenderer: rays -> samples -> plane features -> colours and densities -> images (EG3D's two-pass renderer).

The order of work is that of `VolumeRenderer.render_rays`; each step is a function of a neighbouring file.
See docs/spec/head.md#2.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from modules.geometry.camera import Camera
from modules.rendering.band import EMPTY, Colours, NeededColours, coarse_resolution, needed_samples
from modules.rendering.compositing import expected_depth, interval_weights, sample_weights
from modules.rendering.planes import Decoder, MeanFeatures, rescale_planes, stretch
from modules.rendering.rays import official_limits, pixel_rays, points_along, visible_limits
from modules.rendering.sampling import importance_depths, stratified_depths


@dataclass(frozen=True, kw_only=True)
class RendererConfig:
    """Defaults are the released model's sizes; `demo()` is the small one.

    missing_rays "skip": rays that miss the box, or whose box lies behind the camera, give feature -1, weight 0 and
    the far depth, independently of other rays. "official": the original's rules, in which limits and empty depths are
    shared by the whole batch and the near limit may lie behind the camera (to reproduce its numbers).

    march "full": every ray evaluates all its samples. "band": pictures whose samples are not drawn at random evaluate
    those alone that can matter (`band.py`); renderings with a generator, as in training, stay full.
    """

    plane_channels: int = 32  # C, channels of a feature
    plane_depth: int = 1  # D: 1 = tri-plane, more = tri-grid with D slices
    hidden_channels: int = 64  # of the decoder
    samples_coarse: int = 48  # per ray
    samples_fine: int = 48  # 0: the first pass is the result
    box_size: float = 1.0  # side of the cube of the planes, world units
    missing_rays: str = "skip"  # or "official"
    fixed_limits: tuple[float, float] | None = None  # near and far of all rays; None: where they meet the cube
    white_background: bool = False
    initial_gains: tuple[float, float] = (1.0, 1.0)  # on the decoder's first weights for density and for colours
    march: Literal["full", "band"] = "full"
    least_plane_scale: float = 1.0  # below 1: renderings with random samples read the planes at a random resolution

    def __post_init__(self) -> None:
        if self.missing_rays not in ("skip", "official"):
            raise ValueError(f"missing_rays must be skip or official, not {self.missing_rays!r}")
        if self.march not in ("full", "band"):
            raise ValueError(f"march must be full or band, not {self.march!r}")
        if self.samples_coarse < (4 if self.samples_fine else 2):
            raise ValueError(f"samples_coarse is {self.samples_coarse}; it must be at least 2, or 4 with a fine pass")
        if min(self.plane_channels, self.plane_depth, self.hidden_channels) < 1 or self.samples_fine < 0:
            raise ValueError(f"sizes must be positive: {self}")
        if self.plane_channels < 3:
            raise ValueError(f"plane_channels is {self.plane_channels}; the first three features are RGB")
        if self.box_size <= 0:
            raise ValueError(f"box_size is {self.box_size}; it must be positive")
        if self.fixed_limits is not None and not self.fixed_limits[0] < self.fixed_limits[1]:
            raise ValueError(f"fixed_limits {self.fixed_limits} must increase")
        if not 0 < self.least_plane_scale <= 1:
            raise ValueError(f"least_plane_scale is {self.least_plane_scale}; it must be in (0, 1]")

    @classmethod
    def full(cls) -> "RendererConfig":
        """The released model."""
        return cls()

    @classmethod
    def demo(cls) -> "RendererConfig":
        """Gains that reach opaque surfaces and saturated colours with planes of unit size, after minutes."""
        return cls(
            plane_channels=24,
            hidden_channels=32,
            samples_coarse=24,
            samples_fine=0,
            initial_gains=(10.0, 3.0),
            march="band",
        )


Planes = Tensor | MeanFeatures  # [B, 3, C*D, H, W], or made ready by `VolumeRenderer.readable`


@dataclass(frozen=True)
class RayNoise:
    """The random numbers of a rendering, all in [0, 1)."""

    jitter: Tensor  # [B, R, samples_coarse] or [samples_coarse]: position of a sample within its spacing
    importance: Tensor  # [B, R, samples_fine] or [samples_fine]: quantiles of the fine samples
    resolutions: tuple[float, float] | None = None  # quantiles of the planes' side in either pass; None: as it is

    @staticmethod
    def centred(config: RendererConfig, device: torch.device) -> "RayNoise":
        """Fixed numbers for all rays and frames: samples in the middle of their spacing, evenly spaced quantiles."""
        quantiles = torch.arange(config.samples_fine, device=device, dtype=torch.float32) + 0.5
        return RayNoise(
            jitter=torch.full((config.samples_coarse,), 0.5, device=device),
            importance=quantiles / max(config.samples_fine, 1),
        )

    @staticmethod
    def draw(
        config: RendererConfig, batch: int, rays: int, generator: torch.Generator, device: torch.device
    ) -> "RayNoise":
        """Fresh numbers for every sample, from a generator on the CPU."""
        jitter = torch.rand(batch, rays, config.samples_coarse, generator=generator)
        importance = torch.rand(batch, rays, config.samples_fine, generator=generator)
        resolutions = None
        if config.least_plane_scale < 1:
            coarse, fine = torch.rand(2, generator=generator).tolist()
            resolutions = (coarse, fine)
        return RayNoise(jitter=jitter.to(device), importance=importance.to(device), resolutions=resolutions)


@dataclass(frozen=True)
class RenderOutput:
    """Images of a rendering, float32."""

    feature: Tensor  # [B, C, n, n], roughly [-1, 1] (the first three are RGB); -1 where nothing is
    depth: Tensor  # [B, 1, n, n], distance along the ray, world units
    weights: Tensor  # [B, 1, n, n] in [0, 1], the share of the ray that met matter


@dataclass(frozen=True)
class RayOutput:
    """Results of single rays; N = samples_coarse, M = N + samples_fine (or N)."""

    feature: Tensor  # [B, R, C]
    depth: Tensor  # [B, R, 1]
    weights: Tensor  # [B, R, 1]
    coarse_depths: Tensor  # [B, R, N]
    coarse_weights: Tensor  # [B, R, N-1]
    fine_depths: Tensor  # [B, R, samples_fine]
    sigma: Tensor  # [B, R, M], raw density in order of depth


class VolumeRenderer(nn.Module):
    """Renders tri-planes or tri-grids; its only parameters are those of the decoder."""

    def __init__(self, config: RendererConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.plane_channels, config.hidden_channels)
        self.decoder.amplify(*config.initial_gains)

    def forward(
        self, planes: Tensor, camera: Camera, resolution: int, generator: torch.Generator | None = None
    ) -> RenderOutput:
        """Render a square feature image.

        Args:
            planes: [B or 1, 3, C*D, H, W], channel c*D + d.
            camera: of batch B.
            resolution: n, rays a side.
            generator: on the CPU; None: the same samples every time (jitter 1/2, evenly spaced quantiles).
        """
        origins, directions = pixel_rays(camera.camera_to_world, camera.intrinsics, resolution)
        batch, rays = directions.shape[:2]
        if generator is None:
            noise = RayNoise.centred(self.config, directions.device)
        else:
            noise = RayNoise.draw(self.config, batch, rays, generator, directions.device)
        planes = planes.expand(batch, -1, -1, -1, -1)
        if self.config.march == "band" and generator is None:
            read = self.readable(planes)  # once for both marches
            coarse = self._coarse_march(read, camera, coarse_resolution(resolution))
            result = self.render_rays(read, origins, directions, noise, coarse)
        else:
            result = self.render_rays(planes, origins, directions, noise)
        images = [
            rearrange(values, "b (h w) c -> b c h w", h=resolution)
            for values in (result.feature, result.depth, result.weights)
        ]
        return RenderOutput(feature=images[0], depth=images[1], weights=images[2])

    def render_rays(
        self,
        planes: Planes,
        origins: Tensor,
        directions: Tensor,
        noise: RayNoise,
        band: tuple[Tensor, Tensor] | None = None,
    ) -> RayOutput:
        """March rays twice: evenly, then where the first pass met density; the result uses all samples.

        Args:
            planes: as in `forward`.
            origins: [B, 1 or R, 3].
            directions: [B, R, 3], unit.
            noise: see `RayNoise`.
            band: depths and weights of coarse rays as `needed_samples` reads them, where the rays are those of a
                picture; None: all samples are evaluated.
        """
        if isinstance(planes, Tensor):
            planes = planes.expand(directions.shape[0], -1, -1, -1, -1)
        near, far = self._limits(origins, directions)
        coarse_planes, fine_planes = self._rescaled(planes, noise.resolutions)
        coarse = stratified_depths(near, far, noise.jitter)  # [B, R, N]
        needed = None if band is None else needed_samples(*band, coarse)
        coarse_sigma, coarse_colours = self._query(coarse_planes, origins, directions, coarse, needed)
        coarse_weights = interval_weights(coarse, coarse_sigma)
        if self.config.samples_fine == 0:
            feature = self._feature([(sample_weights(coarse_weights), coarse_colours)])
            return self._result(feature, coarse, coarse_sigma, coarse_weights, far, (coarse, coarse_weights))
        fine = importance_depths(coarse, coarse_weights, noise.importance)  # [B, R, F]
        needed = None if needed is None else needed.any(dim=-1, keepdim=True).expand_as(fine)
        fine_sigma, fine_colours = self._query(fine_planes, origins, directions, fine, needed)
        depths, order = torch.sort(torch.cat([coarse, fine], dim=-1), dim=-1)  # [B, R, M]
        sigma = torch.cat([coarse_sigma, fine_sigma], dim=-1).gather(-1, order)
        weights = interval_weights(depths, sigma)
        # The weights go back to the samples' own order, so that the many colours need not be sorted.
        shares = torch.zeros_like(depths).scatter(-1, order, sample_weights(weights))
        parts = shares.split([coarse.shape[-1], fine.shape[-1]], dim=-1)
        feature = self._feature([(parts[0], coarse_colours), (parts[1], fine_colours)])
        return self._result(feature, depths, sigma, weights, far, (coarse, coarse_weights), fine)

    def density(self, planes: Planes, points: Tensor) -> Tensor:
        """Raw density [B, N, 1] (before softplus) of planes [B, 3, C*D, H, W] at world points [B, N, 3]."""
        return self.decoder.density(self.readable(planes)(points)).float()

    def query(self, planes: Planes, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density [B, N, 1] and colour logits [B, N, C], float32, at world points [B, N, 3]."""
        sigma, logits = self.decoder(self.readable(planes)(points))
        return sigma.float(), logits.float()

    def readable(self, planes: Planes) -> MeanFeatures:
        """Planes [B, 3, C*D, H, W] made ready for lookups; `density` and `query` take either."""
        if isinstance(planes, MeanFeatures):
            return planes
        if self.config.plane_depth > 1:
            planes = rearrange(planes, "b p (c d) h w -> b p c d h w", d=self.config.plane_depth)
        return MeanFeatures(planes, self.config.box_size)

    def _rescaled(self, planes: Planes, resolutions: tuple[float, float] | None) -> tuple[MeanFeatures, MeanFeatures]:
        """The planes of either pass; only planes as they are can be rescaled."""
        if resolutions is None or isinstance(planes, MeanFeatures):
            read = self.readable(planes)
            return read, read
        coarse, fine = (
            self.readable(rescale_planes(planes, self.config.least_plane_scale, quantile)) for quantile in resolutions
        )
        return coarse, fine

    def _limits(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.fixed_limits is not None:
            near, far = self.config.fixed_limits
            shape = directions[..., :1]
            return torch.full_like(shape, near), torch.full_like(shape, far)
        limits = official_limits if self.config.missing_rays == "official" else visible_limits
        return limits(origins, directions, self.config.box_size)

    def _coarse_march(self, planes: MeanFeatures, camera: Camera, resolution: int) -> tuple[Tensor, Tensor]:
        """Depths [B, g*g, N] of a grid of g x g rays and the weights of their intervals [B, g*g, N-1]."""
        origins, directions = pixel_rays(camera.camera_to_world, camera.intrinsics, resolution)
        near, far = self._limits(origins, directions)
        depths = stratified_depths(near, far, RayNoise.centred(self.config, directions.device).jitter)
        sigma = self.density(planes, points_along(origins, directions, depths).flatten(1, 2))
        return depths, interval_weights(depths, sigma.view_as(depths))

    def _query(
        self, planes: MeanFeatures, origins: Tensor, directions: Tensor, depths: Tensor, needed: Tensor | None = None
    ) -> tuple[Tensor, Colours | NeededColours]:
        """Raw density [B, R, S] and colours at depths [B, R, S]; with `needed` [B, R, S] the others are empty."""
        if needed is None:
            points = points_along(origins, directions, depths)
            sigma, logits = self.query(planes, points.flatten(1, 2))
            return sigma.view_as(depths), Colours(rearrange(logits, "b (r s) c -> b r s c", s=depths.shape[-1]))
        values, places, (rays, samples) = [], [], depths.shape[1:]
        for sample, chosen in enumerate(needed):
            place = chosen.flatten().nonzero().squeeze(1)
            ray = torch.div(place, samples, rounding_mode="floor")
            origin = origins[sample].index_select(0, ray) if origins.shape[1] > 1 else origins[sample]
            distance = depths[sample].flatten().index_select(0, place)
            points = origin + directions[sample].index_select(0, ray) * distance[:, None]
            values.append(self.query(planes[sample], points[None]))
            places.append(place + sample * rays * samples)
        sigma, logits = (torch.cat([pair[index][0] for pair in values]) for index in range(2))
        place = torch.cat(places)
        everywhere = torch.full_like(depths, EMPTY).flatten().index_copy(0, place, sigma.squeeze(1))
        return everywhere.view_as(depths), NeededColours(logits, needed, place)

    def _feature(self, parts: list[tuple[Tensor, Colours | NeededColours]]) -> Tensor:
        """Weighted sum of colours over all samples, mapped from [0, 1] to [-1, 1].

        Args:
            parts: pairs of shares [B, R, S] and the colours of those samples.
        Returns:
            [B, R, C].
        """
        total = reduce(torch.add, (shares.sum(dim=-1, keepdim=True) for shares, _ in parts))
        mean = reduce(torch.add, (colours.mean(shares) for shares, colours in parts))
        feature = stretch(mean, total)
        if self.config.white_background:
            feature = feature + 1 - total
        return feature * 2 - 1

    def _result(
        self,
        feature: Tensor,
        depths: Tensor,
        sigma: Tensor,
        weights: Tensor,
        far: Tensor,
        first_pass: tuple[Tensor, Tensor],
        fine: Tensor | None = None,
    ) -> RayOutput:
        if self.config.missing_rays == "official":
            depth = expected_depth(weights, depths, depths.min(), depths.max())
        else:
            depth = expected_depth(weights, depths, depths[..., :1], far)
        return RayOutput(
            feature=feature,
            depth=depth,
            weights=weights.sum(dim=-1, keepdim=True),
            coarse_depths=first_pass[0],
            coarse_weights=first_pass[1],
            fine_depths=depths[..., :0] if fine is None else fine,
            sigma=sigma,
        )
