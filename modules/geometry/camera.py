"""Cameras of the tri-plane world: from head poses and from samplers.

World of the tri-plane: X_w = 0.27 v + (0, 0.006, 0.161) for a point v of the morphable model in dm. Cameras
use OpenCV axes (x right, y down, z forward) and intrinsics in picture widths. See docs/spec/face3d.md#4 and
docs/spec/sr_torso_eg3d.md#10.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from modules.geometry.rotation import rotation_matrix
from modules.layers.precision import full_precision

WORLD_SCALE = 0.27  # world units per dm
WORLD_OFFSET = (0.0, 0.006, 0.161)  # world units, position of the morphable model's origin
CAMERA_DISTANCE = 10.0  # dm from the camera to the origin of the morphable model
FITTING_FOCAL_LENGTH = 1015 / 224  # picture widths: faces are fitted, and procedural people drawn, with it
RELEASED_FOCAL_LENGTH = 2985.29 / 700  # picture widths: the released weights were trained with it
_EPSILON = 1e-5


@dataclass(frozen=True)
class Camera:
    """B cameras.

    Args:
        camera_to_world: [B, 4, 4], OpenCV axes, world units, last row (0, 0, 0, 1).
        intrinsics: [B, 3, 3], lengths in picture widths, centre (0.5, 0.5).
    """

    camera_to_world: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        batch = self.camera_to_world.shape[0]
        if self.camera_to_world.shape[1:] != (4, 4) or self.intrinsics.shape != (batch, 3, 3):
            raise ValueError(
                f"cameras of shapes {tuple(self.camera_to_world.shape)} and "
                f"{tuple(self.intrinsics.shape)}; expected [B, 4, 4] and [B, 3, 3]"
            )

    @property
    def size(self) -> int:
        """B, the number of cameras."""
        return self.camera_to_world.shape[0]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: slice | Tensor) -> "Camera":
        return Camera(self.camera_to_world[index], self.intrinsics[index])

    def to(self, *args: torch.device | torch.dtype | str) -> "Camera":
        """The same cameras on another device or in another type."""
        return Camera(self.camera_to_world.to(*args), self.intrinsics.to(*args))

    def vector(self) -> Tensor:
        """[B, 25]: camera-to-world row by row, then intrinsics row by row."""
        return torch.cat([self.camera_to_world.flatten(1), self.intrinsics.flatten(1)], dim=1)

    @staticmethod
    def from_vector(vector: Tensor) -> "Camera":
        """Cameras of the rows [B, 25] that `vector` makes."""
        return Camera(
            rearrange(vector[:, :16], "b (i j) -> b i j", i=4), rearrange(vector[:, 16:], "b (i j) -> b i j", i=3)
        )


def normalised_intrinsics(focal_length: Tensor) -> Tensor:
    """Focal lengths [B] in picture widths -> intrinsics [B, 3, 3] with the centre in the middle."""
    intrinsics = focal_length.new_zeros(len(focal_length), 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal_length
    intrinsics[:, :2, 2] = 0.5
    intrinsics[:, 2, 2] = 1
    return intrinsics


@full_precision()
def pose_camera(euler: Tensor, translation: Tensor, focal_length: float = RELEASED_FOCAL_LENGTH) -> Camera:
    """The camera that sees the canonical head as the fitting camera sees the posed head (docs/spec/face3d.md#4).

    Args:
        euler: [B, 3] pitch, yaw, roll in radians.
        translation: [B, 3] dm.
        focal_length: in picture widths.
    Returns:
        B cameras.
    """
    to_head = rotation_matrix(euler).mT  # [B, 3, 3]
    flip = euler.new_tensor([1.0, -1.0, -1.0])
    from_head = euler.new_tensor([0.0, 0.0, CAMERA_DISTANCE]) - translation
    position = WORLD_SCALE * (to_head @ from_head[..., None])[..., 0] + euler.new_tensor(WORLD_OFFSET)
    return _camera(to_head * flip, position, focal_length)


@full_precision()
def look_at_camera(
    yaw: Tensor,
    pitch: Tensor,
    radius: Tensor | float = 2.7,
    *,
    look_at: Tensor | None = None,
    roll: Tensor | None = None,
    focal_length: float = RELEASED_FOCAL_LENGTH,
) -> Camera:
    """Cameras on a sphere around the origin (docs/spec/sr_torso_eg3d.md#10-1).

    Args:
        yaw, pitch: [B] radians from frontal; positive pitch is below; the elevation is -asin(2 pitch / pi).
        radius: [B] or a number, world units.
        look_at: [3] or [B, 3] point in the middle of the picture, world units; default the origin.
        roll: [B] radians, default 0.
        focal_length: in picture widths.
    Returns:
        B cameras.
    """
    polar = torch.arccos(1 - 2 * (pitch + math.pi / 2).clamp(_EPSILON, math.pi - _EPSILON) / math.pi)
    azimuth = math.pi / 2 - yaw
    origin = torch.stack([polar.sin() * azimuth.cos(), polar.cos(), polar.sin() * azimuth.sin()], dim=-1)
    origin = origin * torch.as_tensor(radius, dtype=yaw.dtype, device=yaw.device).reshape(-1, 1)  # [B, 3]
    target = torch.zeros_like(origin) if look_at is None else look_at.to(origin).expand_as(origin)
    roll = torch.zeros_like(yaw) if roll is None else roll
    forward = F.normalize(target - origin, dim=-1)
    reference = torch.stack([roll.sin(), roll.cos(), torch.zeros_like(roll)], dim=-1)
    right = -F.normalize(torch.cross(reference, forward, dim=-1), dim=-1)
    down = F.normalize(torch.cross(forward, right, dim=-1), dim=-1)
    return _camera(torch.stack([right, down, forward], dim=-1), origin, focal_length)


def uniform_cameras(
    count: int,
    generator: torch.Generator,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    spread: tuple[float, float] = (0.6632, 0.4538),
    radius: tuple[float, float] = (2.7, 4.0),
    look_at: tuple[float, float, float] = (0.0, 0.0, 0.2),
) -> Camera:
    """`count` cameras, uniform in yaw +- spread[0], pitch +- spread[1] and radius[0] .. radius[1].

    The defaults are those of the views in distillation: +-38 and +-26 degrees (docs/spec/sr_torso_eg3d.md#10-3).

    Args:
        yaw, pitch, spread: radians from frontal, within +-pi/2.
        radius: least and greatest distance from the origin, world units.
        look_at: point in the middle of the picture, world units.
    """
    _check_angles(yaw, pitch)
    yaws = yaw + spread[0] * (2 * torch.rand(count, generator=generator) - 1)
    pitches = pitch + spread[1] * (2 * torch.rand(count, generator=generator) - 1)
    radii = radius[0] + (radius[1] - radius[0]) * torch.rand(count, generator=generator)
    return look_at_camera(yaws, pitches, radii, look_at=torch.tensor(look_at))


def _camera(rotation: Tensor, position: Tensor, focal_length: float) -> Camera:
    last = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(rotation), 1, 4)
    matrix = torch.cat([torch.cat([rotation, position[..., None]], dim=-1), last], dim=1)
    return Camera(matrix, normalised_intrinsics(rotation.new_full((len(rotation),), focal_length)))


def _check_angles(yaw: float, pitch: float) -> None:
    if max(abs(yaw), abs(pitch)) > math.pi / 2:
        raise ValueError(f"yaw {yaw} and pitch {pitch} must be within +-pi/2 of frontal")
