"""Three feature planes and the small network that reads them: points in space -> features -> colour and density."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.layers.stylegan import FullyConnected
from modules.rendering.lookup import lookup_mean

# Which world axis runs along (width, height, depth) of each plane. The third repeats the second transposed: there is
# no YZ plane, and published weights depend on it.
PLANE_AXES = ((0, 1, 2), (0, 2, 1), (2, 0, 1))


def plane_coordinates(points: Tensor, box_size: float) -> Tensor:
    """Positions of world points in the three planes.

    Args:
        points: [B, N, 3], world units.
        box_size: side of the cube the planes span, world units.
    Returns:
        [B, 3, N, 3]: along width, height, depth; -1 and 1 are the faces of the cube.
    """
    return torch.stack([points[..., list(axes)] for axes in PLANE_AXES], dim=1) * (2.0 / box_size)


def sample_planes(planes: Tensor, points: Tensor, box_size: float) -> Tensor:
    """Values of every plane at points; zeros outside, coordinate -1 is the outer edge of the first pixel.

    Args:
        planes: [B, 3, C, H, W], bilinear, or a tri-grid [B, 3, C, D, H, W], trilinear (fades to half at its outer
            slices' faces; one slice is therefore not the same as a plane).
        points: [B, N, 3].
    Returns:
        [B, 3, N, C].
    """
    coordinates = plane_coordinates(points, box_size).to(planes.dtype)
    batch, tri_grid = planes.shape[0], planes.ndim == 6
    grid = rearrange(coordinates if tri_grid else coordinates[..., :2], "b p n xyz -> (b p) n 1 xyz")
    grid = grid[:, None] if tri_grid else grid
    values = F.grid_sample(planes.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rearrange(values.flatten(2), "(b p) c n -> b p n c", b=batch)


def mean_features(planes: Tensor, points: Tensor, box_size: float) -> Tensor:
    """Mean of `sample_planes` over the three planes, [B, N, C], float32; the planes' dtype may be lower.

    Two-dimensional planes on the CPU take the fast lookup, unless the points need a gradient.
    """
    planes, points = planes.float(), points.float()
    if planes.device.type == "cpu" and planes.ndim == 5 and not points.requires_grad:
        return lookup_mean(planes, plane_coordinates(points, box_size)[..., :2])
    return sample_planes(planes, points, box_size).mean(dim=1)


class Decoder(nn.Module):
    """Two equalised layers: plane features [..., C] -> raw density and C colours (the first three are RGB)."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(FullyConnected(channels, hidden_channels), nn.Softplus(),
                                 FullyConnected(hidden_channels, 1 + channels))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features [..., C] -> raw density [..., 1] and colour logits [..., C] (see `colours`)."""
        values = self.net(features.to(self.net[0].weight.dtype))
        return values[..., :1], values[..., 1:]


def colours(logits: Tensor) -> Tensor:
    """Logits -> colours in (-0.001, 1.001): the sigmoid, stretched so that black and white can be reached (mip-NeRF)."""
    return torch.sigmoid(logits) * 1.002 - 0.001
