"""Fast bilinear lookup in feature planes on the CPU: one weighted row sum per point, forwards and backwards.

The same function as `grid_sample` in every plane and a sum (see `planes.py`, its reference), but `grid_sample` reads
planes channel by channel; here a pixel's channels are neighbours in memory and the corners of all planes are summed in
one pass. The gradient with respect to the planes is again such a sum, over the points sorted by the cell they fall in.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def plane_table(planes: Tensor) -> Tensor:
    """Planes [B, P, C, H, W], float32, as `look_up` reads them: [B, P, H + 2, W + 2, C], with a border of zeros."""
    return rearrange(F.pad(planes, (1, 1, 1, 1)), "b p c h w -> b p h w c").contiguous()


def look_up(table: Tensor, coordinates: Tensor) -> Tensor:
    """Sum over the planes of their bilinear values (zeros outside).

    Args:
        table: the `plane_table` of planes [B, P, C, H, W], kept for as many lookups as there are.
        coordinates: [P, 2, B, N], along the width and the height of each plane; -1 and 1 are the outer edges. They
            get no gradient.
    Returns:
        [B, N, C].
    """
    batch, count = table.shape[:2]
    height, width = table.shape[2] - 2, table.shape[3] - 2
    column, x = _split(coordinates[:, 0].detach(), width)  # [P, B, N]
    row, y = _split(coordinates[:, 1].detach(), height)
    first = torch.arange(batch * count, device=table.device).view(batch, count).t() * ((height + 2) * (width + 2))
    cell = first[..., None] + (row * (width + 2) + column).long()  # [P, B, N]
    total = _CornerSum.apply(table.flatten(0, 3), cell.flatten(1), x.flatten(1), y.flatten(1), width + 2)
    return rearrange(total, "(b n) c -> b n c", b=batch)


class _Context(Protocol):
    """What `_CornerSum` keeps for its backward pass; PyTorch's own class for it declares neither."""

    rows: int
    stride: int
    saved_tensors: tuple[Tensor, Tensor, Tensor]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep them as `saved_tensors`."""


class _CornerSum(torch.autograd.Function):
    """table [T, C]; cell, x, y [P, M] -> [M, C]: sum over P of the rows at cell, to its right, below and diagonal."""

    @staticmethod
    def forward(ctx: _Context, table: Tensor, cell: Tensor, x: Tensor, y: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(cell, x, y)
        ctx.rows, ctx.stride = table.shape[0], stride
        weights = torch.cat(_corner_weights(x, y)).t().contiguous()  # [M, 4P]
        small = cell.int()
        rows = torch.cat([small + offset for offset in _corner_offsets(stride)]).t().contiguous()
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cell, x, y = ctx.saved_tensors
        order = torch.argsort(cell.view(-1), stable=True)
        source = order % cell.shape[1]  # the point of each sorted entry
        starts = F.pad(torch.bincount(cell.view(-1), minlength=ctx.rows).cumsum(0)[:-1], (1, 0))
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])
        gradient = gradient.contiguous()
        for offset, weights in zip(_corner_offsets(ctx.stride), _corner_weights(x, y)):
            weights = weights.view(-1).index_select(0, order)
            share = F.embedding_bag(source, gradient, starts, mode="sum", per_sample_weights=weights)
            total[offset:] += share[: ctx.rows - offset]
        return total, None, None, None, None


def _split(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Coordinate -1 .. 1 -> whole pixel 0 .. size of the padded row and the fraction on to the next, in [0, 1]."""
    pixel = ((coordinate + 1) * (size / 2) + 0.5).clamp(0.0, size + 1.0)
    whole = pixel.floor().clamp(max=size)
    return whole, pixel - whole


def _corner_offsets(stride: int) -> tuple[int, int, int, int]:
    return 0, 1, stride, stride + 1


def _corner_weights(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    diagonal = x * y
    right, below = x - diagonal, y - diagonal
    return 1 - x - below, right, below, diagonal
