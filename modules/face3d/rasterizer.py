"""A z-buffer for triangle meshes in plain PyTorch, CPU and CUDA: triangles -> pixels (docs/spec/face3d.md#3-3).

Every triangle is expanded into the pixels of its bounding box, pixels are tested against the three edges, and
the nearest triangle of each pixel wins by one `amin` over keys that hold depth and triangle number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.geometry.camera import FITTING_FOCAL_LENGTH

_NO_TRIANGLE = torch.iinfo(torch.int64).max
_CANDIDATES = 1 << 21  # pixels tested at a time: bounds the memory
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
    chosen, box = _pixel_boxes(corners, size)
    for part in _parts(box[2] * box[3]):
        rows = chosen[part]
        nearby = [[corner.index_select(0, rows) for corner in axis] for axis in corners]
        _draw(nearby, [side[part] for side in box], rows, (size, count), keys)
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
    pixels = torch.nonzero(fragments.triangle.flatten() >= 0).squeeze(1)  # [P]
    seen = fragments.triangle.flatten().index_select(0, pixels)
    corners = triangles.index_select(0, seen)  # [P, 3]
    if attributes.ndim == 3:
        corners = corners + (pixels // (height * width) * attributes.shape[1])[:, None]
        attributes = attributes.flatten(0, 1)
    weights = fragments.barycentric.flatten(0, 2).index_select(0, pixels).to(attributes.dtype)  # [P, 3]
    values = sum(weights[:, k, None] * attributes.index_select(0, corners[:, k]) for k in range(3))
    image = attributes.new_zeros(batch * height * width, attributes.shape[1])
    image = image.index_copy(0, pixels, values)
    return image.view(batch, height, width, -1).permute(0, 3, 1, 2)  # [B, C, H, W]


def _project(points: Tensor, size: int, focal_length: float) -> list[Tensor]:
    """(x, y, depth) [B, V, 3] -> column, row, depth, 3 x [B, V]; pixel edges at whole numbers."""
    x, y, depth = points.unbind(dim=-1)
    scale = 2 * focal_length / depth
    return [size / 2 * (1 + scale * x), size / 2 * (1 - scale * y), depth]


def _pixel_boxes(corners: Corners, size: int) -> tuple[Tensor, list[Tensor]]:
    """Triangles that may own a pixel centre [N]; their boxes: first column, row, width, height, 4 x [N]."""
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = corners
    keep = torch.minimum(torch.minimum(az, bz), cz) > _NEAR
    keep &= ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).abs() * (2 / size) ** 2 > _EMPTY_AREA
    box = []
    for a, b, c in corners[:2]:
        low = (torch.minimum(torch.minimum(a, b), c) - 0.5).ceil_().clamp_(min=0)
        high = (torch.maximum(torch.maximum(a, b), c) - 0.5).floor_().clamp_(max=size - 1)
        keep &= high >= low
        box.append((low, high - low + 1))
    chosen = torch.nonzero(keep).squeeze(1)
    (column, width), (row, height) = box
    return chosen, [side.index_select(0, chosen).to(torch.int64) for side in (column, row, width, height)]


def _parts(counts: Tensor) -> list[slice]:
    """Runs of triangles that have about `_CANDIDATES` pixels together."""
    total = counts.cumsum(0)
    if not len(counts) or int(total[-1]) <= _CANDIDATES:
        return [slice(0, len(counts))]
    limits = torch.arange(1, int(total[-1]) // _CANDIDATES + 1, device=counts.device) * _CANDIDATES
    cuts = sorted({0, *(torch.searchsorted(total, limits) + 1).tolist(), len(counts)})
    return [slice(a, b) for a, b in zip(cuts, cuts[1:])]


def _draw(corners: Corners, box: list[Tensor], numbers: Tensor, sizes: tuple[int, int], keys: Tensor) -> None:
    """Lower `keys` [B*R*R] where a triangle covers a pixel centre.

    Args:
        corners, box, numbers: of N triangles, the number counting those of all samples.
        sizes: R, and triangles of one sample.
    """
    size, per_sample = sizes
    first_column, first_row, width, height = box
    counts = width * height
    owner = torch.repeat_interleave(counts)  # [P] row of `corners`
    start = counts.cumsum(0) - counts
    local = torch.arange(len(owner), device=owner.device) - start.index_select(0, owner)
    across = width.index_select(0, owner)
    down = torch.div(local, across, rounding_mode="floor")
    column = first_column.index_select(0, owner).add_(local.sub_(down * across))
    row = first_row.index_select(0, owner).add_(down)
    weights = _edge_functions([[c.index_select(0, owner) for c in axis] for axis in corners[:2]], column, row)
    hit = torch.nonzero(torch.minimum(torch.minimum(*weights[:2]), weights[2]) > 0).squeeze(1)
    owner = owner.index_select(0, hit)
    weights = [w.index_select(0, hit) for w in weights]
    inverse = sum(w / z.index_select(0, owner) for w, z in zip(weights, corners[2]))  # linear in the picture
    depth = (weights[0] + weights[1] + weights[2]) / inverse
    number = numbers.index_select(0, owner)
    key = (depth.view(torch.int32).to(torch.int64) << 32) | (number % per_sample)
    sample = torch.div(number, per_sample, rounding_mode="floor")
    pixel = (sample * size + row.index_select(0, hit)) * size + column.index_select(0, hit)
    keys.scatter_reduce_(0, pixel, key, "amin")


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
    pixels = torch.nonzero(keys != _NO_TRIANGLE).squeeze(1)
    triangle = keys.index_select(0, pixels) & 0xFFFFFFFF
    within = pixels % (size * size)
    owner = triangle + torch.div(pixels, size * size, rounding_mode="floor") * per_sample
    x, y, z = ([corner.index_select(0, owner) for corner in axis] for axis in corners)
    weights = _edge_functions([x, y], within % size, torch.div(within, size, rounding_mode="floor"))
    weights = [w / d for w, d in zip(weights, z)]
    total = weights[0] + weights[1] + weights[2]
    weights = torch.stack([w / total for w in weights], dim=-1)  # [P, 3]
    shape = (batch, size, size)
    triangles = torch.full_like(keys, -1).index_copy_(0, pixels, triangle).view(shape)
    barycentric = weights.new_zeros(len(keys), 3).index_copy_(0, pixels, weights).view(*shape, 3)
    depth = sum(weights[:, k] * z[k] for k in range(3))
    depth = weights.new_zeros(len(keys)).index_copy_(0, pixels, depth).view(shape)
    return Fragments(triangles, barycentric, depth)
