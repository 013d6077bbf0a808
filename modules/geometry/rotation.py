"""Rotations of a head: pitch, yaw and roll <-> a matrix."""

import torch
from torch import Tensor


def rotation_matrix(euler: Tensor) -> Tensor:
    """M = Rz Ry Rx of pitch, yaw, roll (docs/spec/face3d.md#2-1).

    Args:
        euler: [..., 3] radians.
    Returns:
        [..., 3, 3]; it acts on columns: p' = M p.
    """
    (sx, sy, sz), (cx, cy, cz) = euler.sin().unbind(-1), euler.cos().unbind(-1)
    rows = [
        cz * cy,
        cz * sy * sx - sz * cx,
        cz * sy * cx + sz * sx,
        sz * cy,
        sz * sy * sx + cz * cx,
        sz * sy * cx - cz * sx,
        -sy,
        cy * sx,
        cy * cx,
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def euler_angles(rotation: Tensor) -> Tensor:
    """Inverse of `rotation_matrix` for yaw within +-90 degrees: [..., 3, 3] -> [..., 3] radians."""
    pitch = torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2])
    yaw = torch.asin((-rotation[..., 2, 0]).clamp(-1, 1))
    roll = torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])
    return torch.stack([pitch, yaw, roll], dim=-1)
