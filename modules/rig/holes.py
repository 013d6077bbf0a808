"""The holes of the face, where the geometry is coarse and the frame is fine: rims without steps.

Triangles are drawn at 256 pixels or so. What they say of the skin is continued into the holes, and what they say of
eyes and mouth outwards, so that either can be looked up on both sides of a rim; the share of a pixel that the mouth has
follows from the ring of landmarks itself.
"""

import torch
from torch import Tensor

from modules.geometry.camera import FITTING_FOCAL_LENGTH
from modules.rig.filters import averaged, widened

_REACH = 2  # pixels of the geometry by which values are continued
_NONE = 1e-3  # share of known pixels below which there is none, but for rounding
_SUBROWS = 4  # lines a row of pixels on which coverage is exact


def continued(values: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """Values [B, G, G, K] continued by `_REACH` pixels from where `known` [B, G, G] is to where `wanted` is.

    A pixel takes the mean of its known neighbours, ring by ring. Values that are neither known nor reached stay.
    """
    rows, columns = box_of(widened(known, 2 * _REACH + 1) & wanted & ~known, _REACH + 1)
    if rows.stop == rows.start:
        return values
    part, seen, free = values[:, rows, columns], known[:, rows, columns].float(), wanted[:, rows, columns]
    part = torch.cat([part * seen[..., None], seen[..., None]], dim=-1)
    for _ in range(_REACH):
        total = averaged(part)
        reached = (total[..., -1:] > _NONE) & (part[..., -1:] == 0) & free[..., None]
        part = torch.where(reached, total / total[..., -1:].clamp(min=1e-6), part)
    result = values.clone()
    result[:, rows, columns] = torch.where(part[..., -1:] > 0, part[..., :-1], values[:, rows, columns])
    return result


def box_of(mask: Tensor, margin: int) -> tuple[slice, slice]:
    """Rows and columns in which a mask [B, H, W] of some frame is, and so many more; none where it is nowhere."""
    parts = []
    for axis, size in ((2, mask.shape[1]), (1, mask.shape[2])):
        places = torch.nonzero(mask.any(dim=axis).any(dim=0)).flatten()
        if not len(places):
            return slice(0, 0), slice(0, 0)
        parts.append(slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, size)))
    return parts[0], parts[1]


def ring_cover(points: Tensor, near: Tensor) -> Tensor:
    """The share of each pixel that lies in a ring of points, where it is the nearest thing.

    Args:
        points: [B, N, 3] dm, x right, y up, depth from the camera, around a hole one way or the other.
        near: [B, R, R] bool, where the hole can be seen.
    Returns:
        [B, R, R] in [0, 1]; 0 outside `near`.
    """
    size = near.shape[-1]
    rows, columns = box_of(near, 0)
    cover = near.new_zeros(near.shape, dtype=points.dtype)
    height = rows.stop - rows.start
    if not height:
        return cover
    x = size * (0.5 + FITTING_FOCAL_LENGTH * points[..., 0] / points[..., 2])
    y = size * (0.5 - FITTING_FOCAL_LENGTH * points[..., 1] / points[..., 2])
    lines = torch.arange(height * _SUBROWS, device=points.device, dtype=points.dtype)
    lines = (rows.start + (lines + 0.5) / _SUBROWS)[None, :, None]  # [1, L, 1]
    x0, y0, x1, y1 = (axis[:, None] for axis in (x, y, x.roll(-1, 1), y.roll(-1, 1)))  # [B, 1, N]
    crosses = (y0 <= lines) != (y1 <= lines)
    at = x0 + (lines - y0) * (x1 - x0) / torch.where(crosses, y1 - y0, 1.0)
    way = torch.where(crosses, (y1 - y0).sign(), 0.0)  # [B, L, N]
    left = torch.arange(columns.start, columns.stop, device=points.device, dtype=points.dtype)
    share = (way[..., None] * (at[..., None] - left).clamp(0, 1)).sum(dim=2).abs().clamp(max=1)  # [B, L, W]
    cover[:, rows, columns] = share.unflatten(1, (height, _SUBROWS)).mean(dim=2) * near[:, rows, columns]
    return cover
