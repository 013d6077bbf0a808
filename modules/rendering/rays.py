"""Rays: from the pixels of a pinhole camera into the world, and where they meet the cube that holds the planes.

Pure geometry in float32 whatever autocast says. World and camera axes: `modules/geometry/camera.py`.
See docs/spec/head.md#2-1 and #2-2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.layers.precision import full_precision


@full_precision()
def pixel_rays(camera_to_world: Tensor, intrinsics: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centres of a square image.

    Args:
        camera_to_world: [B, 4, 4], OpenCV axes (x right, y down, z forward), world units.
        intrinsics: [B, 3, 3], lengths in image widths; entry (0, 1) is the skew.
        resolution: R, pixels a side.
    Returns:
        Origins [B, 1, 3] and unit directions [B, R*R, 3], row by row from the top left.
    """
    pose, lens = camera_to_world.float(), intrinsics.float()
    centres = (torch.arange(resolution, device=pose.device, dtype=torch.float32) + 0.5) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    u, v = u.reshape(1, -1), v.reshape(1, -1)  # [1, R*R]
    fx, fy, skew = lens[:, 0, 0, None], lens[:, 1, 1, None], lens[:, 0, 1, None]
    y = (v - lens[:, 1, 2, None]) / fy
    x = (u - lens[:, 0, 2, None] - skew * y) / fx
    in_camera = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # [B, R*R, 3]
    directions = (pose[:, None, :3, :3] * in_camera[:, :, None]).sum(dim=-1)
    return pose[:, None, :3, 3], F.normalize(directions, dim=-1, eps=1e-12)


def points_along(origins: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    """Points [B, N, S, 3] at depths [B, N, S] of rays with origins [B, 1 or N, 3] and directions [B, N, 3]."""
    return origins[:, :, None] + directions[:, :, None] * depths[..., None]


def box_limits(origins: Tensor, directions: Tensor, box_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Distances at which rays enter and leave the cube |x|, |y|, |z| <= box_size / 2 (slab method).

    Args:
        origins: [B, 1 or N, 3].
        directions: [B, N, 3], unit.
        box_size: side of the cube, world units.
    Returns:
        near, far [B, N, 1], not clamped (negative behind the origin), and valid [B, N, 1] (far > near).
    """
    inverse = 1.0 / directions
    first = (-box_size / 2 - origins) * inverse
    second = (box_size / 2 - origins) * inverse
    near = torch.minimum(first, second).amax(dim=-1, keepdim=True)
    far = torch.maximum(first, second).amin(dim=-1, keepdim=True)
    return near, far, far > near


def visible_limits(origins: Tensor, directions: Tensor, box_size: float) -> tuple[Tensor, Tensor]:
    """Limits [B, N, 1] in front of the camera; a ray that misses gets near = far, so its samples weigh nothing.

    That common depth of the misses is the farthest the cube can reach from the camera; it depends on this camera
    alone.
    """
    near, far, _ = box_limits(origins, directions, box_size)
    near = near.clamp(min=0.0)
    reach = torch.linalg.vector_norm(origins, dim=-1, keepdim=True) + box_size * 3**0.5 / 2
    reach = reach.expand_as(near)
    hit = far > near
    return torch.where(hit, near, reach), torch.where(hit, far, reach)


def official_limits(origins: Tensor, directions: Tensor, box_size: float) -> tuple[Tensor, Tensor]:
    """Limits [B, N, 1] as the original has them (parity): misses borrow from the whole batch.

    near <- smallest near, far <- largest near of the rays that hit; -1 and -2 if none does.
    """
    near, far, valid = box_limits(origins, directions, box_size)
    if not valid.any():
        return torch.full_like(near, -1.0), torch.full_like(far, -2.0)
    nears = near[valid]
    return torch.where(valid, near, nears.min()), torch.where(valid, far, nears.max())
