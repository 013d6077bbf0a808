"""Three feature planes and the small network that reads them: points in space -> features -> colour and density.

See docs/spec/head.md#2-3 and #2-4.
"""

import math
from copy import copy
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.layers.stylegan import FullyConnected
from modules.rendering.lookup import look_up, plane_table

# Which world axis runs along (width, height, depth) of each plane. The third repeats the second transposed: there is
# no YZ plane, and published weights depend on it.
PLANE_AXES = ((0, 1, 2), (0, 2, 1), (2, 0, 1))


def plane_coordinates(points: Tensor, box_size: float, count: int = 3) -> Tensor:
    """Positions of world points in the first `count` planes.

    Args:
        points: [B, N, 3], world units.
        box_size: side of the cube the planes span, world units.
    Returns:
        [B, count, N, 3]: along width, height, depth; -1 and 1 are the faces of the cube.
    """
    return torch.stack([points[..., list(axes)] for axes in PLANE_AXES[:count]], dim=1) * (2.0 / box_size)


def sample_planes(planes: Tensor, points: Tensor, box_size: float) -> Tensor:
    """Values of every plane at points; zeros outside, coordinate -1 is the outer edge of the first pixel.

    Args:
        planes: [B, P, C, H, W], the first P of the three planes, bilinear; or a tri-grid [B, P, C, D, H, W], trilinear
            (it fades to half at the faces of its outer slices, so one slice is not the same as a plane).
        points: [B, N, 3].
    Returns:
        [B, P, N, C].
    """
    coordinates = plane_coordinates(points, box_size, planes.shape[1]).to(planes.dtype)
    batch, tri_grid = planes.shape[0], planes.ndim == 6
    grid = rearrange(coordinates if tri_grid else coordinates[..., :2], "b p n xyz -> (b p) n 1 xyz")
    grid = grid[:, None] if tri_grid else grid
    values = F.grid_sample(planes.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(values.flatten(2), "(b p) c n -> b p n c", b=batch)


def fold_planes(planes: Tensor) -> Tensor:
    """[B, 3, ..., S, S] -> [B, 2, ..., S, S], over (x, y) and (x, z): the third plane is read at (z, x), so that its
    transpose can be added to the second; then two lookups do the work of three."""
    return torch.stack([planes[:, 0], planes[:, 1] + planes[:, 2].transpose(-1, -2)], dim=1)


def rescale_planes(planes: Tensor, least_scale: float, quantile: float) -> Tensor:
    """Planes at a random resolution: EG3D's planes hold detail that the lookup of nearby points does not need.

    See docs/spec/sr_torso_eg3d.md#7-8, enable_rescale_plane_regulation.

    Args:
        planes: [B, 3, C*D, S, S].
        least_scale: smallest share of S, in (0, 1].
        quantile: in [0, 1); 0 gives the smallest side floor(least_scale S), the last of the equally likely sides is S.
    Returns:
        [B, 3, C*D, s, s], float32, bilinear without antialiasing.
    """
    side = planes.shape[-1]
    least = math.floor(side * least_scale)
    size = least + math.floor((side - least + 1) * quantile)
    return resize(planes.flatten(0, 1).float(), size, antialias=False).unflatten(0, planes.shape[:2])


class MeanFeatures:
    """The mean of `sample_planes` over the three square planes, made ready once for the lookups of many points.

    On the CPU two-dimensional planes take the fast lookup, unless the points need a gradient or the model is exported.
    """

    def __init__(self, planes: Tensor, box_size: float) -> None:
        """Planes as those of `sample_planes`, B of them; float32 even if they are not."""
        self.box_size, self.planes = box_size, fold_planes(planes.float()).div_(3)
        fast = planes.device.type == "cpu" and planes.ndim == 5 and not torch.compiler.is_exporting()
        self.table = plane_table(self.planes) if fast else None

    def __getitem__(self, sample: int) -> "MeanFeatures":
        """Those of one sample, as a batch of 1."""
        one, part = copy(self), slice(sample, sample + 1)
        one.planes, one.table = self.planes[part], None if self.table is None else self.table[part]
        return one

    def __call__(self, points: Tensor) -> Tensor:
        """[B, N, C] at world points [B, N, 3]."""
        points = points.float()
        if self.table is None or points.requires_grad:
            return sample_planes(self.planes, points, self.box_size).sum(dim=1)
        x, y, z = (points * (2.0 / self.box_size)).unbind(dim=-1)  # [B, N]
        return look_up(self.table, torch.stack([torch.stack([x, y]), torch.stack([x, z])]))


def mean_features(planes: Tensor, points: Tensor, box_size: float) -> Tensor:
    """`MeanFeatures` of planes for a single lookup of points [B, N, 3]: [B, N, C], float32."""
    return MeanFeatures(planes, box_size)(points)


class Decoder(nn.Module):
    """Two equalised layers: plane features [..., C] -> raw density and C colours (the first three are RGB)."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            FullyConnected(channels, hidden_channels), nn.Softplus(), FullyConnected(hidden_channels, 1 + channels)
        )

    def _layers(self) -> tuple[FullyConnected, FullyConnected]:
        """The two layers; to nn.Sequential they are Modules."""
        return cast(FullyConnected, self.net[0]), cast(FullyConnected, self.net[2])

    @torch.no_grad()
    def amplify(self, density: float, colour: float) -> None:
        """Multiply the last layer's weights for density and for colours.

        An opaque surface needs a raw density of about the inverse of the sample spacing, which planes of unit size
        do not reach with the first weights; then the planes grow instead, and slow down everything behind them.
        """
        weight = self._layers()[1].weight
        weight[:1].mul_(density)
        weight[1:].mul_(colour)

    @torch.no_grad()
    def pass_through(self, feature: int, output: int, gain: float) -> None:
        """Start with output number `output` (0: density, then the colours) as `gain` times a feature, exactly.

        Takes hidden units 2 * feature and the next one, since softplus(x) - softplus(-x) = x.
        """
        first, last = (layer.weight for layer in self._layers())
        units = slice(2 * feature, 2 * feature + 2)
        signs = torch.tensor([1.0, -1.0], device=first.device)
        first[units] = 0
        last[output] = 0
        first[units, feature] = signs * first.shape[1] ** 0.5  # equalised: divided by it again
        last[output, units] = signs * gain * last.shape[1] ** 0.5

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features [..., C] -> raw density [..., 1] and colour logits [..., C] (see `colours`)."""
        values = self.net(features.to(parameter_dtype(self)))
        return values[..., :1], values[..., 1:]

    def density(self, features: Tensor) -> Tensor:
        """The raw density of `forward` alone, without the work for colours."""
        first, last = self._layers()
        return last(self.net[1](first(features.to(parameter_dtype(self)))), outputs=1)


def stretch(value: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """(0, 1) -> (-0.001, 1.001), so that black and white can be reached (mip-NeRF); `weight`: the total of a sum."""
    return value * 1.002 - 0.001 * weight


def colours(logits: Tensor) -> Tensor:
    """The decoder's colour logits -> colours in (-0.001, 1.001)."""
    return stretch(torch.sigmoid(logits))
