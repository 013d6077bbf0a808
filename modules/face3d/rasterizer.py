"""A z-buffer for triangle meshes in plain PyTorch, CPU and CUDA: triangles -> pixels (docs/spec/face3d.md#3-3).

Every triangle is expanded into the rows that it crosses, and these into the pixels between two of its edges. The
nearest triangle of each pixel wins by one `amin` over keys that hold depth and triangle number.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import FITTING_FOCAL_LENGTH

_NO_TRIANGLE = torch.iinfo(torch.int64).max
_CANDIDATES = 1 << 21  # pixels of bounding boxes drawn at a time: bounds the memory
_EMPTY_AREA = 1e-8  # doubled area in a picture of [-1, 1]^2 below which a triangle is skipped
_NEAR = 1e-3  # dm; triangles with a corner nearer than this are skipped

Corners = list[list[Tensor]]  # column, row, depth of the three corners: 3 x 3 x [triangles]


@dataclass(frozen=True)
class Fragments:
    """The nearest triangle of each pixel.

    Args:
        triangle: [B, H, W] int64 row of `triangles`, -1 where nothing is.
        barycentric: [B, H, W, 3] perspective-corrected weights of the corners, sum 1; 0 where nothing is.
        depth: [B, H, W] dm along the optical axis, 0 where nothing is.
    """

    triangle: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """[B, H, W] bool, True where a triangle is."""
        return self.triangle >= 0


@torch.no_grad()
def rasterize(points: Tensor, triangles: Tensor, size: int, focal_length: float = FITTING_FOCAL_LENGTH) -> Fragments:
    """Find the nearest triangle at every pixel centre; both sides of a triangle are seen.

    Args:
        points: [B, V, 3] dm: x right, y up, depth > 0, as `camera_points` makes them of posed vertices.
        triangles: [F, 3] int64.
        size: pixels a side.
        focal_length: in picture widths; the optical axis passes through the centre of the picture.
    Returns:
        Fragments; nothing in it carries gradients.
    """
    batch, count = points.shape[0], triangles.shape[0]
    projected = _project(points.float(), size, focal_length)  # 3 x [B, V]
    corners = [[axis[:, triangles[:, k]].flatten() for k in range(3)] for axis in projected]
    keys = torch.full((batch * size * size,), _NO_TRIANGLE, dtype=torch.int64, device=points.device)
    chosen, rows, areas = _pixel_rows(corners, size)
    for part in _parts(areas):
        numbers = chosen[part]
        nearby = [[corner.index_select(0, numbers) for corner in axis] for axis in corners]
        _draw(nearby, [side[part] for side in rows], numbers, (size, count), keys)
    return _resolve(keys, corners, (batch, size, count))


def interpolate(fragments: Fragments, attributes: Tensor, triangles: Tensor) -> Tensor:
    """An image of values given at the vertices; differentiable in the values.

    Args:
        fragments: from `rasterize`.
        attributes: [V, C] or [B, V, C].
        triangles: [F, 3] int64, as given to `rasterize`.
    Returns:
        [B, C, H, W], 0 where nothing is.
    """
    batch, height, width = fragments.triangle.shape
    corners = triangles.index_select(0, fragments.triangle.flatten().clamp(min=0)).view(batch, -1, 3)
    if attributes.ndim == 3:
        first = torch.arange(batch, device=corners.device) * attributes.shape[1]
        corners, attributes = corners + first[:, None, None], attributes.flatten(0, 1)
    weights = fragments.barycentric.flatten(0, 2).to(attributes.dtype)  # 0 where nothing is
    image = F.embedding_bag(corners.flatten(0, 1), attributes, per_sample_weights=weights, mode="sum")
    return image.view(batch, height, width, -1).permute(0, 3, 1, 2)  # [B, C, H, W]


def _project(points: Tensor, size: int, focal_length: float) -> list[Tensor]:
    """(x, y, depth) [B, V, 3] -> column, row, depth, 3 x [B, V]; pixel edges at whole numbers."""
    x, y, depth = points.unbind(dim=-1)
    scale = 2 * focal_length / depth
    return [size / 2 * (1 + scale * x), size / 2 * (1 - scale * y), depth]


def _pixel_rows(corners: Corners, size: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """Triangles that may own a pixel centre [N]; their first rows and how many, 2 x [N]; pixels of their boxes [N]."""
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = corners
    keep = torch.minimum(torch.minimum(az, bz), cz) > _NEAR
    keep &= ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).abs() * (2 / size) ** 2 > _EMPTY_AREA
    box = []
    for a, b, c in corners[:2]:
        low = (torch.minimum(torch.minimum(a, b), c) - 0.5).floor_().add_(1).clamp_(min=0)
        high = (torch.maximum(torch.maximum(a, b), c) - 0.5).ceil_().sub_(1).clamp_(max=size - 1)
        keep &= high >= low
        box.append((low, high - low + 1))
    chosen = torch.nonzero(keep).squeeze(1)
    (_, width), (row, height) = box
    row, height, area = (side.index_select(0, chosen).to(torch.int64) for side in (row, height, width * height))
    return chosen, [row, height], area


def _parts(counts: Tensor) -> list[slice]:
    """Runs of triangles that have about `_CANDIDATES` pixels together."""
    total = counts.cumsum(0)
    if not len(counts) or int(total[-1]) <= _CANDIDATES:
        return [slice(0, len(counts))]
    limits = torch.arange(1, int(total[-1]) // _CANDIDATES + 1, device=counts.device) * _CANDIDATES
    cuts = sorted({0, *(torch.searchsorted(total, limits) + 1).tolist(), len(counts)})
    return [slice(a, b) for a, b in zip(cuts, cuts[1:])]


def _draw(corners: Corners, rows: list[Tensor], numbers: Tensor, sizes: tuple[int, int], keys: Tensor) -> None:
    """Lower `keys` [B*R*R] where a triangle covers a pixel centre.

    Args:
        corners, rows, numbers: of N triangles, the number counting those of all samples.
        sizes: R, and triangles of one sample.
    """
    size, per_sample = sizes
    owner, local = _expanded(rows[1])  # [T], the rows of all triangles
    row = rows[0].index_select(0, owner).add_(local)
    (left, near), (right, far) = _crossings(corners, owner, row)
    turned = left > right
    left, right = torch.minimum(left, right), torch.maximum(left, right)
    near, far = torch.where(turned, far, near), torch.where(turned, near, far)
    first = (left - 0.5).floor_().add_(1).clamp_(min=0)
    count = (right - 0.5).ceil_().clamp_(max=size).sub_(first).clamp_(min=0)
    slope = (far - near) / (right - left)
    start = near + (first + 0.5 - left) * slope
    sample = torch.div(numbers, per_sample, rounding_mode="floor")
    base = (sample.index_select(0, owner) * size + row) * size + first.to(torch.int64)
    line, local = _expanded(count.to(torch.int64))  # [P], the pixels of all rows
    inverse = torch.addcmul(start.index_select(0, line), slope.index_select(0, line), local.to(slope.dtype))
    number = (numbers % per_sample).index_select(0, owner).index_select(0, line)
    key = (inverse.reciprocal_().view(torch.int32).to(torch.int64) << 32) | number
    keys.scatter_reduce_(0, base.index_select(0, line).add_(local), key, "amin")


def _expanded(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Item k repeated counts[k] times: the number of the item and that of the repetition, both [sum of counts]."""
    owner = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=owner.device) - start.index_select(0, owner)


def _crossings(corners: Corners, owner: Tensor, row: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where the middles of rows [T] of triangles `owner` [T] cross two edges: column and inverse depth, 2 x 2 x [T].

    Edges are followed downwards, so that the two triangles of an edge get exactly the same columns: no gaps, no pixel
    owned twice. The inverse depth is linear in the picture.
    """
    x, y, depth = (torch.stack(axis, dim=1) for axis in corners)  # [N, 3]
    y, order = y.sort(dim=1)
    x, inverse = x.gather(1, order), depth.reciprocal().gather(1, order)

    def edge(a: int, b: int) -> Tensor:
        down = (y[:, b] - y[:, a]).reciprocal()
        steps = [(values[:, b] - values[:, a]) * down for values in (x, inverse)]
        return torch.stack([x[:, a], inverse[:, a], y[:, a], *steps], dim=1)

    middle = row + 0.5
    below = middle >= y[:, 1].index_select(0, owner)
    short = torch.cat([edge(0, 1), edge(1, 2)]).index_select(0, owner + below * len(x))
    results = []
    for line in (edge(0, 2).index_select(0, owner), short):
        down = middle - line[:, 2]
        results.append((line[:, 0] + down * line[:, 3], line[:, 1] + down * line[:, 4]))
    return results


def _edge_functions(corners: list[list[Tensor]], column: Tensor, row: Tensor) -> list[Tensor]:
    """Barycentric coordinates times the doubled area, positive inside whatever the orientation; 3 x [P].

    Corners (columns, rows; 2 x 3 x [P]) are taken relative to the pixel centre, so that the two triangles
    of an edge get exactly opposite numbers: no gaps, no pixel owned twice.
    """
    x, y = ([corner - (pixel + 0.5) for corner in axis] for axis, pixel in zip(corners, (column, row)))
    weights = [x[b] * y[c] - y[b] * x[c] for b, c in ((1, 2), (2, 0), (0, 1))]
    sign = torch.sign(weights[0] + weights[1] + weights[2])
    return [w * sign for w in weights]


def _resolve(keys: Tensor, corners: Corners, sizes: tuple[int, int, int]) -> Fragments:
    """Keys -> triangle, barycentric weights w_k ~ b_k / d_k, depth; sizes = B, R, triangles of one sample."""
    batch, size, per_sample = sizes
    shape = (batch, size, size)
    drawn = keys != _NO_TRIANGLE
    pixels = torch.nonzero(drawn).squeeze(1)
    sample, row, column = torch.nonzero(drawn.view(shape)).unbind(1)
    triangle = keys.index_select(0, pixels) & 0xFFFFFFFF
    owner = triangle + sample * per_sample
    x, y, z = ([corner.index_select(0, owner) for corner in axis] for axis in corners)
    weights = [w / d for w, d in zip(_edge_functions([x, y], column, row), z)]
    total = weights[0] + weights[1] + weights[2]
    weights = [w / total for w in weights]
    depth = weights[0] * z[0] + weights[1] * z[1] + weights[2] * z[2]
    triangles = torch.full_like(keys, -1).index_copy_(0, pixels, triangle).view(shape)
    barycentric = depth.new_zeros(len(keys), 3).index_copy_(0, pixels, torch.stack(weights, dim=-1)).view(*shape, 3)
    return Fragments(triangles, barycentric, depth.new_zeros(len(keys)).index_copy_(0, pixels, depth).view(shape))
