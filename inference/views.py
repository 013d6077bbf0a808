"""A portrait as a thing in space: pictures of it from any side with depth, its tri-plane, and what that holds.

Lengths are in world units, of which the cube of the planes has one a side; `WORLD_SCALE` of them are a decimetre.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.motion import Motion
from inference.portrait import Portrait
from modules.geometry.camera import Camera
from modules.portrait.real3d_portrait import PortraitOutput
from modules.rendering.compositing import density
from modules.rendering.planes import colours, mean_features
from modules.rendering.renderer import VolumeRenderer
from modules.system.errors import UserError

LARGEST_TURN = 90.0  # degrees from the photo's pose; what the networks draw is poor long before
SOLID = 0.5  # share of a ray that has met matter, from which its depth counts


@dataclass(frozen=True)
class View:
    """One finished picture; S pixels a side.

    Attributes:
        picture: uint8 [S, S, 3].
        depth: float32 [S, S], distance from the camera to the head along the ray, world units; NaN where the ray
            meets no head (torso and background have no depth: they are flat).
        alpha: float32 [S, S] in [0, 1], how far the person, torso included, covers the background.
        camera: that saw it, batch 1, in the space of the planes, where the head stays in the canonical pose.
    """

    picture: np.ndarray
    depth: np.ndarray
    alpha: np.ndarray
    camera: Camera

    @property
    def mask(self) -> np.ndarray:
        """Where there is depth, bool [S, S]."""
        return np.isfinite(self.depth)


@dataclass(frozen=True)
class Planes:
    """The tri-plane of a portrait with the decoder that reads it.

    Attributes:
        planes: [3, C*D, H, W], channel c*D + d: of the planes xy, xz and zy.
        renderer: of the checkpoint.
    """

    planes: Tensor
    renderer: VolumeRenderer

    @property
    def box_size(self) -> float:
        """Side of the cube around the origin that the planes cover, world units."""
        return self.renderer.config.box_size

    @torch.inference_mode()
    def features_at(self, points: Tensor) -> Tensor:
        """Features [N, C], the mean over the planes, at points [N, 3]: x right, y up, z towards the viewer.

        Raises:
            UserError: points of another shape, here and below.
        """
        depth, planes = self.renderer.config.plane_depth, self.planes[None]
        if depth > 1:
            planes = planes.unflatten(2, (-1, depth))
        return mean_features(planes, self._batch_of(points), self.box_size)[0]

    @torch.inference_mode()
    def density_at(self, points: Tensor) -> Tensor:
        """Density [N], at least 0, per world unit, at points [N, 3]."""
        raw = self.renderer.density(self.planes[None], self._batch_of(points))
        return density(raw)[0, :, 0]

    @torch.inference_mode()
    def colours_at(self, points: Tensor) -> Tensor:
        """Colours [N, 3] in [0, 1] at points [N, 3]."""
        logits = self.renderer.query(self.planes[None], self._batch_of(points))[1]
        return colours(logits)[0, :, :3].clamp(0, 1)

    def _batch_of(self, points: Tensor) -> Tensor:
        """[N, 3] -> [1, N, 3]."""
        if points.ndim != 2 or points.shape[1] != 3:
            raise UserError(
                f"points have shape {list(points.shape)}; they must be [N, 3], such as points.reshape(-1, 3)"
            )
        return points[None].to(self.planes)


def turned_motion(portrait: Portrait, yaw: Tensor, pitch: Tensor, expression: Tensor | None = None) -> Motion:
    """The portrait turned by so many degrees from its pose in the photo, a row for each.

    Args:
        yaw, pitch: [T] degrees; positive yaw turns to the right side of the picture, positive pitch looks down.
        expression: [64] for all rows, or [T, 64]; None: the photo's.
    Raises:
        UserError: an angle beyond `LARGEST_TURN`, or an expression of another size.
    """
    count = len(yaw)
    for name, angles in (("yaw", yaw), ("pitch", pitch)):
        if not (angles.abs() <= LARGEST_TURN).all():
            worst = float(angles[int(torch.nan_to_num(angles, nan=torch.inf).abs().argmax())])
            raise UserError(
                f"{name} is {worst:g} degrees; give {-LARGEST_TURN:g} to {LARGEST_TURN:g}: "
                "a photo shows nothing of the other side of a head"
            )
    own = portrait.expression if expression is None else torch.as_tensor(expression, dtype=torch.float32)
    own = own[None] if own.ndim == 1 else own
    if own.shape not in ((1, 64), (count, 64)):
        raise UserError(f"expression has shape {list(own.shape)}; it must be [64] or [{count}, 64]")
    euler = torch.deg2rad(torch.stack([pitch, yaw, torch.zeros(count)], dim=1).float())
    return Motion(
        expression=own.expand(count, -1).clone(),
        euler=euler,
        translation=torch.zeros(count, 3),
        blink=torch.zeros(count, 1),
        face_model=portrait.face_model,
        relative=True,
        smoothed=True,
    )


def depth_map(output: PortraitOutput, size: int) -> Tensor:
    """Depth [B, size, size] of rendered heads, NaN where rays meet nothing; the render's pixels, repeated."""
    depth = torch.where(output.rendered.weights > SOLID, output.rendered.depth, torch.nan)
    return torch.nn.functional.interpolate(depth.float(), (size, size), mode="nearest")[:, 0]
