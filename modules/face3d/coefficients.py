"""Coefficients of a morphable model, the pose of a head, and its projection into the picture.

Units and axes: decimetres, x to the right of a frontal picture, y up, z towards the viewer (docs/spec/face3d.md#2).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules.geometry.camera import CAMERA_DISTANCE, FITTING_FOCAL_LENGTH
from modules.geometry.rotation import rotation_matrix
from modules.layers.precision import full_precision
from modules.system.errors import UserError

IDENTITY_SIZE = 80
EXPRESSION_SIZE = 64
_FIELDS = {"identity": IDENTITY_SIZE, "expression": EXPRESSION_SIZE, "euler": 3, "translation": 3}


@dataclass(frozen=True)
class FaceCoefficients:
    """One face over T frames.

    Args:
        identity: [T, 80] or [1, 80] (the same in every frame).
        expression: [T, 64].
        euler: [T, 3] pitch, yaw, roll in radians; positive yaw turns the nose to the right of the picture,
            positive pitch down, positive roll is counter-clockwise.
        translation: [T, 3] decimetres.
    """

    identity: Tensor
    expression: Tensor
    euler: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        for name, width in _FIELDS.items():
            shape = tuple(getattr(self, name).shape)
            if len(shape) != 2 or shape[1] != width:
                raise ValueError(f"{name} has shape {shape}; expected [T, {width}]")
            if shape[0] != len(self) and not (name == "identity" and shape[0] == 1):
                raise ValueError(f"{name} has {shape[0]} rows, expression has {len(self)}")

    def __len__(self) -> int:
        return self.expression.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> "FaceCoefficients":
        """Coefficients of the frames `index`; an integer keeps the axis (one row). A shared identity stays one row."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        identity = self.identity if self.identity.shape[0] == 1 else self.identity[index]
        return FaceCoefficients(identity, self.expression[index], self.euler[index], self.translation[index])

    def to(self, *args: torch.device | torch.dtype | str) -> "FaceCoefficients":
        """The same values on another device or in another type."""
        return FaceCoefficients(*(getattr(self, name).to(*args) for name in _FIELDS))

    def replace(self, **fields: Tensor) -> "FaceCoefficients":
        """A copy with some fields exchanged."""
        return replace(self, **fields)

    @staticmethod
    def neutral(frames: int = 1) -> "FaceCoefficients":
        """The mean face without expression, frontal, at the origin: one row of identity, `frames` rows of the rest."""
        return FaceCoefficients(
            torch.zeros(1, IDENTITY_SIZE),
            torch.zeros(frames, EXPRESSION_SIZE),
            torch.zeros(frames, 3),
            torch.zeros(frames, 3),
        )

    def save(self, path: Path) -> None:
        """Write an npz with the four arrays, float32."""
        arrays = {name: getattr(self, name).detach().cpu().float().numpy() for name in _FIELDS}
        np.savez(path, **arrays)

    @staticmethod
    def load(path: Path) -> "FaceCoefficients":
        """Read what `save` wrote; raises UserError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                fields = (torch.from_numpy(arrays[name].astype(np.float32)) for name in _FIELDS)
                return FaceCoefficients(*fields)
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{path} is no file of face coefficients ({error}); expected an npz with {', '.join(_FIELDS)}"
            ) from error


@full_precision()
def pose_points(points: Tensor, euler: Tensor, translation: Tensor) -> Tensor:
    """Points of a posed head: p' = M p + t.

    Args:
        points: [B, N, 3] in model space, dm.
        euler: [B, 3] radians.
        translation: [B, 3] dm.
    Returns:
        [B, N, 3] dm.
    """
    return points @ rotation_matrix(euler).transpose(-1, -2) + translation[:, None]


@full_precision()
def unpose_points(posed: Tensor, euler: Tensor, translation: Tensor) -> Tensor:
    """The inverse of `pose_points`, [B, N, 3] dm: p = M^T (p' - t)."""
    return (posed - translation[:, None]) @ rotation_matrix(euler)


def camera_points(posed: Tensor) -> Tensor:
    """Posed points (x', y', z') -> (x', y', d) with the depth d = 10 - z' from the camera; [..., 3] dm."""
    return torch.cat([posed[..., :2], CAMERA_DISTANCE - posed[..., 2:]], dim=-1)


def project(posed: Tensor) -> Tensor:
    """Posed points [..., N, 3] in dm -> picture fractions [..., N, 2], x right, y down, 0..1 inside.

    This is lm2d of docs/spec/face3d.md#2-3.
    """
    xy = FITTING_FOCAL_LENGTH * posed[..., :2] / (CAMERA_DISTANCE - posed[..., 2:])
    return torch.stack([0.5 + xy[..., 0], 0.5 - xy[..., 1]], dim=-1)
