"""A z-buffer for triangle meshes in plain PyTorch, CPU and CUDA: triangles -> pixels (spec face3d 3.3).

Every triangle is expanded into the pixels of its bounding box, pixels are tested against the three edges, and the
nearest triangle of each pixel wins by one `amin` over keys that hold depth and triangle number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.face3d.coefficients import FOCAL_LENGTH

_NO_TRIANGLE = torch.iinfo(torch.int64).max
_CANDIDATES = 1 << 21                 # pixels tested at a time: bounds the memory
_EMPTY_AREA = 1e-8                    # doubled area in a picture of [-1, 1]^2 below which a triangle is skipped
_NEAR = 1e-3                          # dm; triangles with a corner nearer than this are skipped


@dataclass(frozen=True)
class Fragments:
    """What is seen in each pixel.

    Args:
        triangle: [B, H, W] int64 row of `triangles`, -1 where nothing is.
        barycentric: [B, H, W, 3] perspective-corrected weights of the corners, 0 where nothing is.
        depth: [B, H, W] distance along the optical axis, 0 where nothing is.
    """

    triangle: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """[B, H, W] bool, True where a triangle is."""
        return self.triangle >= 0


@torch.no_grad()
def rasterize(points: Tensor, triangles: Tensor, size: int, focal_length: float = FOCAL_LENGTH) -> Fragments:
    """Find the nearest triangle at every pixel centre; both sides of a triangle are seen.

    Args:
        points: [B, V, 3]: x right, y up, depth > 0 (posed 3DMM points, see `camera_points`).
        triangles: [F, 3] int64.
        size: pixels a side.
        focal_length: in picture widths; the optical axis passes through the centre of the picture.
    Returns:
        Fragments; nothing in it carries gradients.
    """
    points = points.float()
    corners = _project(points, size, focal_length)[:, triangles].flatten(0, 1)          # [B*F, 3, 3] col, row, depth
    keys = torch.full((points.shape[0] * size * size,), _NO_TRIANGLE, dtype=torch.int64, device=points.device)
    chosen, box = _pixel_boxes(corners, size)
    counts = box[:, 2] * box[:, 3]
    for part in _parts(counts):
        _draw(corners, chosen[part], box[part], (size, triangles.shape[0]), keys)
    return _resolve(keys, corners, (points.shape[0], size, triangles.shape[0]))


def interpolate(fragments: Fragments, attributes: Tensor, triangles: Tensor) -> Tensor:
    """Picture of values given at the vertices; differentiable in the values.

    Args:
        fragments: from `rasterize`.
        attributes: [V, C] or [B, V, C].
        triangles: [F, 3], as given to `rasterize`.
    Returns:
        [B, C, H, W], 0 where nothing is.
    """
    batch, height, width = fragments.triangle.shape
    pixels = torch.nonzero(fragments.triangle.flatten() >= 0).squeeze(1)                # [P]
    corners = triangles[fragments.triangle.flatten()[pixels]]                           # [P, 3]
    if attributes.ndim == 3:
        corners = corners + (pixels // (height * width) * attributes.shape[1])[:, None]
        attributes = attributes.flatten(0, 1)
    weights = fragments.barycentric.flatten(0, 2)[pixels].to(attributes.dtype)          # [P, 3]
    values = sum(weights[:, k, None] * attributes.index_select(0, corners[:, k]) for k in range(3))
    picture = attributes.new_zeros(batch * height * width, attributes.shape[1])
    picture = picture.index_put((pixels,), values)
    return picture.view(batch, height, width, -1).permute(0, 3, 1, 2)                   # [B, C, H, W]


def _project(points: Tensor, size: int, focal_length: float) -> Tensor:
    """(x, y, depth) -> (column, row, depth), pixel edges at whole numbers; [B, V, 3]."""
    depth = points[..., 2]
    scale = 2 * focal_length / depth
    column = size / 2 * (1 + scale * points[..., 0])
    row = size / 2 * (1 - scale * points[..., 1])
    return torch.stack([column, row, depth], dim=-1)


def _pixel_boxes(corners: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Triangles that may own a pixel centre [N] and their boxes [N, 4]: first column, first row, width, height."""
    low = (corners[..., :2].amin(dim=1) - 0.5).ceil().clamp(min=0)                      # [T, 2]
    high = (corners[..., :2].amax(dim=1) - 0.5).floor().clamp(max=size - 1)
    extent = high - low + 1
    (ax, ay), (bx, by) = ((corners[:, k, :2] - corners[:, 0, :2]).unbind(-1) for k in (1, 2))
    area = (ax * by - ay * bx).abs() * (2 / size) ** 2
    keep = (extent > 0).all(dim=1) & (area > _EMPTY_AREA) & (corners[..., 2].amin(dim=1) > _NEAR)
    chosen = torch.nonzero(keep).squeeze(1)
    return chosen, torch.cat([low[chosen], extent[chosen]], dim=1).to(torch.int64)


def _parts(counts: Tensor) -> list[slice]:
    """Runs of triangles that have about `_CANDIDATES` pixels together."""
    total = counts.cumsum(0)
    if not len(counts) or int(total[-1]) <= _CANDIDATES:
        return [slice(0, len(counts))]
    limits = torch.arange(1, int(total[-1]) // _CANDIDATES + 1, device=counts.device) * _CANDIDATES
    cuts = sorted({0, *(torch.searchsorted(total, limits) + 1).tolist(), len(counts)})
    return [slice(a, b) for a, b in zip(cuts, cuts[1:])]


def _draw(corners: Tensor, chosen: Tensor, box: Tensor, sizes: tuple[int, int], keys: Tensor) -> None:
    """Lower `keys` [B*R*R] where a chosen triangle covers a pixel centre; sizes = (R, triangles of a mesh)."""
    size, per_mesh = sizes
    counts = box[:, 2] * box[:, 3]
    owner = torch.repeat_interleave(counts)                                             # [N] row of `chosen`
    local = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    first_column, first_row, width = box[:, 0][owner], box[:, 1][owner], box[:, 2][owner]
    down = torch.div(local, width, rounding_mode="floor")
    column, row = first_column + local - down * width, first_row + down
    owner = chosen[owner]
    weights = _edge_functions(corners, owner, column, row)                              # 3 x [N]
    inside = (torch.minimum(torch.minimum(weights[0], weights[1]), weights[2]) > 0)
    hit = torch.nonzero(inside).squeeze(1)
    owner = owner[hit]
    depth = _depth(corners, owner, [w[hit] for w in weights])
    key = (depth.view(torch.int32).to(torch.int64) << 32) | (owner % per_mesh)
    mesh = torch.div(owner, per_mesh, rounding_mode="floor")
    pixel = (mesh * size + row[hit]) * size + column[hit]
    keys.scatter_reduce_(0, pixel, key, "amin")


def _edge_functions(corners: Tensor, owner: Tensor, column: Tensor, row: Tensor) -> list[Tensor]:
    """Barycentric coordinates times the doubled area, positive inside whatever the orientation; 3 x [N].

    Corners are taken relative to the pixel centre, so that the two triangles of an edge get exactly opposite
    numbers: no gaps, no pixel owned twice.
    """
    x = [corners[:, k, 0].contiguous()[owner] - (column + 0.5) for k in range(3)]
    y = [corners[:, k, 1].contiguous()[owner] - (row + 0.5) for k in range(3)]
    weights = [x[b] * y[c] - y[b] * x[c] for b, c in ((1, 2), (2, 0), (0, 1))]
    sign = torch.sign(weights[0] + weights[1] + weights[2])
    return [w * sign for w in weights]


def _depth(corners: Tensor, owner: Tensor, weights: list[Tensor]) -> Tensor:
    """Depth at pixels: inverse depth is linear in the picture; [N]."""
    inverse = [corners[:, k, 2].reciprocal()[owner] for k in range(3)]
    total = weights[0] + weights[1] + weights[2]
    return total / (weights[0] * inverse[0] + weights[1] * inverse[1] + weights[2] * inverse[2])


def _resolve(keys: Tensor, corners: Tensor, sizes: tuple[int, int, int]) -> Fragments:
    """Keys -> triangle, barycentric weights w_k ~ b_k / d_k, depth; sizes = (B, R, triangles of a mesh)."""
    batch, size, per_mesh = sizes
    pixels = torch.nonzero(keys != _NO_TRIANGLE).squeeze(1)
    triangle = keys[pixels] & 0xFFFFFFFF
    within = pixels % (size * size)
    owner = triangle + torch.div(pixels, size * size, rounding_mode="floor") * per_mesh
    weights = _edge_functions(corners, owner, within % size, torch.div(within, size, rounding_mode="floor"))
    weights = torch.stack(weights, dim=-1) / corners[owner, :, 2]                       # [P, 3]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    shape = (batch, size, size)
    triangles = torch.full_like(keys, -1).index_put_((pixels,), triangle).view(shape)
    barycentric = corners.new_zeros(len(keys), 3).index_put_((pixels,), weights).view(*shape, 3)
    depth = corners.new_zeros(len(keys)).index_put_((pixels,), (weights * corners[owner, :, 2]).sum(-1)).view(shape)
    return Fragments(triangles, barycentric, depth)
