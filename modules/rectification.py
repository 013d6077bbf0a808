"""Rectification: what a picture of a posed head shows, redrawn where the planes have it.

Each pixel of the XY plane takes the colour that the picture shows at the point of an average head's surface before it,
and motion planes cover the face's cube alone. The networks then need not learn where a head is in its picture, which
takes the released model millions of views. Not in the paper; a model trained with it has it in its config.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.camera import Camera, pose_camera
from modules.face3d.coefficients import FOCAL_LENGTH
from modules.rendering.planes import PLANE_AXES

_OVERSAMPLING = 2      # a side, against aliasing


@dataclass(frozen=True, kw_only=True)
class RectificationConfig:
    """World units; the defaults fit adult heads in a cube of side 1."""

    head_centre: tuple[float, float, float] = (0.0, 0.0, -0.15)        # of the ellipsoid that stands for the head
    head_radii: tuple[float, float, float] = (0.30, 0.40, 0.42)
    face_centre: tuple[float, float, float] = (0.0, -0.0703125, 0.25)  # of the cube of the motion planes
    face_share: float = 0.5                                            # its side over that of the whole cube

    def __post_init__(self) -> None:
        if min(self.head_radii) <= 0 or not 0 < self.face_share <= 1:
            raise ValueError(f"head_radii {self.head_radii} must be positive, face_share {self.face_share} in 0..1")

    def motion_size(self, planes: int) -> int:
        """Pixels a side of whole planes that hold motion planes of `planes` pixels. Raises ValueError: no integer."""
        size = round(planes / self.face_share)
        if abs(size * self.face_share - planes) > 1e-6:
            raise ValueError(f"face_share {self.face_share} does not divide motion planes of {planes} pixels")
        return size


def rectify_photo(picture: Tensor, camera: Camera, box_size: float, size: int, config: RectificationConfig) -> Tensor:
    """A head seen by `camera` -> the same over the whole XY plane.

    Args:
        picture: [B, 3, S, S] in [-1, 1], -1 where no head is.
        camera: of the pictures.
        box_size: side of the cube of the planes, world units.
        size: pixels a side of the result.
    Returns:
        [B, 3, size, size] in picture orientation (first row: the top), -1 outside the picture.
    """
    return _look_up(picture, camera, _surface((0.0, 0.0), box_size, size * _OVERSAMPLING, config))


def rectify_pncc(pncc: Tensor, box_size: float, size: int, config: RectificationConfig) -> Tensor:
    """PNCC pictures [B, 3, S, S] (no pose) -> the same over the face's part of the XY plane, [B, 3, size, size]."""
    still = torch.zeros(1, 3, device=pncc.device)
    camera = pose_camera(still, still, FOCAL_LENGTH)
    centre, side = config.face_centre[:2], box_size * config.face_share
    return _look_up(pncc, camera, _surface(centre, side, size * _OVERSAMPLING, config))


def place_motion(planes: Tensor, box_size: float, config: RectificationConfig, outside: float = 0.0) -> Tensor:
    """Planes of the face's cube [B, 3, C, H, H] -> planes of the whole cube, `outside` elsewhere."""
    small, size = planes.shape[-1], config.motion_size(planes.shape[-1])
    placed = planes.new_full((*planes.shape[:3], size, size), outside)
    for index, (width, height, _) in enumerate(PLANE_AXES):
        left, low = (round((config.face_centre[axis] / box_size + 0.5 - config.face_share / 2) * size)
                     for axis in (width, height))
        placed[:, index, :, low:low + small, left:left + small] = planes[:, index]
    return placed


def _surface(centre: tuple[float, float], side: float, size: int, config: RectificationConfig) -> Tensor:
    """Points of the head's surface before the pixels of a square of the XY plane: [size, size, 3]; beside the head,
    those of the plane through its centre."""
    steps = ((torch.arange(size) + 0.5) / size - 0.5) * side
    y, x = torch.meshgrid(centre[1] - steps, centre[0] + steps, indexing="ij")
    (x0, y0, z0), (rx, ry, rz) = config.head_centre, config.head_radii
    height = (1 - ((x - x0) / rx) ** 2 - ((y - y0) / ry) ** 2).clamp(min=0).sqrt()
    return torch.stack([x, y, z0 + rz * height], dim=-1)


def _look_up(picture: Tensor, camera: Camera, points: Tensor) -> Tensor:
    """Colours that pictures [B, 3, S, S] show at world points [n, n, 3]: [B, 3, n / 2, n / 2] (see `_OVERSAMPLING`)."""
    with torch.autocast(picture.device.type, enabled=False):
        to_camera = torch.linalg.inv(camera.camera_to_world.float())
        seen = points.to(to_camera) @ to_camera[:, None, :3, :3].mT + to_camera[:, None, None, :3, 3]    # [B, n, n, 3]
        seen = seen @ camera.intrinsics[:, None].to(seen).mT
        places = (2 * seen[..., :2] / seen[..., 2:].clamp(min=1e-6) - 1).expand(picture.shape[0], -1, -1, -1)
        found = F.grid_sample(picture.float() + 1, places, mode="bilinear", padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(found - 1, _OVERSAMPLING)
