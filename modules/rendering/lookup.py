"""Fast bilinear lookup in the three planes on the CPU: one weighted row sum per point, forwards and backwards.

The same function as three `grid_sample` calls and a mean (see `planes.py`, its reference), but planes are read channel
by channel there; here a pixel's channels are neighbours in memory and all twelve corners are summed in one pass. The
gradient with respect to the planes is again such a sum, over the points sorted by the cell they fall in.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def lookup_mean(planes: Tensor, coordinates: Tensor) -> Tensor:
    """Mean over the planes of their bilinear values (zeros outside).

    Args:
        planes: [B, P, C, H, W], float32.
        coordinates: [B, P, N, 2], along the width and the height; -1 and 1 are the outer edges. No gradient.
    Returns:
        [B, N, C].
    """
    batch, count, _, height, width = planes.shape
    table = rearrange(F.pad(planes, (1, 1, 1, 1)), "b p c h w -> (b p h w) c").contiguous()
    column, x = _split(rearrange(coordinates[..., 0].detach(), "b p n -> (b n) p"), width)
    row, y = _split(rearrange(coordinates[..., 1].detach(), "b p n -> (b n) p"), height)
    first = torch.arange(batch * count, device=planes.device) * ((height + 2) * (width + 2))
    first = first.view(batch, 1, count).expand(-1, coordinates.shape[2], -1).reshape(-1, count)
    cell = (first + (row * (width + 2) + column).long()).contiguous()            # [B*N, P]
    mean = _CornerSum.apply(table, cell, x, y, width + 2)
    return rearrange(mean, "(b n) c -> b n c", b=batch)


class _CornerSum(torch.autograd.Function):
    """table [T, C]; cell, x, y [M, P] -> [M, C]: mean over P of the four rows at cell, to its right, below, diagonal."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, table: Tensor, cell: Tensor, x: Tensor, y: Tensor,
                stride: int) -> Tensor:
        ctx.save_for_backward(cell, x, y)
        ctx.rows, ctx.stride = table.shape[0], stride
        weights = torch.cat(_corner_weights(x, y), dim=1)                        # [M, 4P]
        rows = torch.cat([cell + offset for offset in _corner_offsets(stride)], dim=1)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cell, x, y = ctx.saved_tensors
        points, planes = cell.shape
        order = torch.argsort(cell.view(-1), stable=True)
        source = order.div(planes, rounding_mode="floor")                        # the point of each sorted entry
        starts = F.pad(torch.bincount(cell.view(-1), minlength=ctx.rows).cumsum(0)[:-1], (1, 0))
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])
        gradient = gradient.contiguous()
        for offset, weights in zip(_corner_offsets(ctx.stride), _corner_weights(x, y)):
            share = F.embedding_bag(source, gradient, starts, mode="sum",
                                    per_sample_weights=weights.reshape(-1)[order])
            total[offset:] += share[:ctx.rows - offset]
        return total, None, None, None, None


def _split(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Coordinate -1 .. 1 -> whole pixel 0 .. size of the padded row and the fraction on to the next, in [0, 1]."""
    pixel = ((coordinate + 1) * (size / 2) + 0.5).clamp(0.0, size + 1.0)
    whole = pixel.floor().clamp(max=size)
    return whole, pixel - whole


def _corner_offsets(stride: int) -> tuple[int, int, int, int]:
    return 0, 1, stride, stride + 1


def _corner_weights(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = x.shape[1]
    right, left = x / count, (1 - x) / count
    return left * (1 - y), right * (1 - y), left * y, right * y
