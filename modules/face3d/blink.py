"""Blinks: how far the eyes are closed over time, and lids drawn over the eye holes of a PNCC.

See docs/spec/face3d.md#7.
"""

import math

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

_REFERENCE_SIZE = 512  # pixels of the picture in which the two distances below are given
_MARGIN = 4  # from the eye hole to the box that is edited
_EROSION = 5  # skin nearer to the hole than this gives no colour


def close_eyes(pncc: Tensor, amount: float, scale_distances: bool = True) -> Tensor:
    """Pull the lids over the eye holes of one PNCC; without eye holes only its values are rounded.

    Args:
        pncc: [3, H, W] in [-1, 1].
        amount: 0 (open) to 1 (closed).
        scale_distances: margins are those of a 512 picture, scaled to this one; False keeps 4 and 5 pixels at
            any size, as the released system does.
    Returns:
        [3, H, W] float32, quantised to 8 bits: q / 127.5 - 1.
    """
    colours = ((pncc.detach().float() + 1) / 2 * 255).to(torch.int64).cpu().numpy()  # [3, H, W]
    scale = pncc.shape[-1] / _REFERENCE_SIZE if scale_distances else 1.0
    regions = _eye_regions(colours, scale) if amount > 0 else None
    if regions is not None:
        eye, donors = regions
        lids = _lids(eye, amount)
        if donors.any():
            rows, columns = distance_transform_edt(~donors, return_distances=False, return_indices=True)
            colours[:, lids] = colours[:, rows[lids], columns[lids]]
    return (torch.from_numpy(colours).to(torch.float32) / 127.5 - 1).to(pncc.device)


def blink_curve(frames: int) -> Tensor:
    """How far the eyes are closed over a blink of T frames, 0 (open) to 1: 4 t / T - 4 t^2 / T^2; [T] float64."""
    t = torch.arange(frames, dtype=torch.float64)
    return 4 * t / frames - 4 * t**2 / frames**2


def _eye_regions(colours: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Pixels that may close [H, W] bool and skin that gives their colours [H, W] bool; None without two
    holes."""
    _, height, width = colours.shape
    face = (colours != 0).all(axis=0)
    half, quarter = width // 2, width // 4
    hole = np.zeros_like(face)
    rows = slice(height // 4, height // 2)
    sides = [slice(quarter, half), slice(half, 3 * quarter)]
    for columns in sides:
        hole[rows, columns] = ~face[rows, columns]
        if not hole[rows, columns].any():
            return None
    margin = max(1, math.floor(_MARGIN * scale + 0.5))
    used = np.flatnonzero(hole.any(axis=1))
    box = np.zeros_like(face)
    for columns in sides:
        in_side = np.flatnonzero(hole[:, columns].any(axis=0)) + columns.start
        box[_around(used, margin), _around(in_side, margin)] = True
    donors = face & box & (distance_transform_edt(~hole) > _EROSION * scale)
    return box & ~donors, donors


def _around(used: np.ndarray, margin: int) -> slice:
    """From `margin` before the first to margin - 1 behind the last: the released system's box."""
    return slice(max(used[0] - margin, 0), used[-1] + margin)


def _lids(eye: np.ndarray, amount: float) -> np.ndarray:
    """The part of the eye [H, W] that is covered: from both ends of each column towards its mean row."""
    height = eye.shape[0]
    rows = np.arange(height)[:, None]
    mean = (eye * rows).sum(axis=0) / np.maximum(eye.sum(axis=0), 1)
    first, last = eye.argmax(axis=0), height - 1 - eye[::-1].argmax(axis=0)
    upper = amount * mean + (1 - amount) * first
    lower = amount * mean + (1 - amount) * last
    return eye & ((rows <= upper) | (rows >= lower))
