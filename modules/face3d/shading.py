"""Surfaces in light: the normals of a mesh (docs/spec/face3d.md#1-3)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def vertex_normals(vertices: Tensor, triangles: Tensor, weighting: Literal["area", "equal"] = "area") -> Tensor:
    """Mean normals of the triangles around each vertex.

    Args:
        vertices: [..., V, 3], any unit of length.
        triangles: [F, 3] int64, counter-clockwise seen from outside.
        weighting: "area": large triangles count more; "equal": all the same, as the original does.
    Returns:
        [..., V, 3], unit, outwards; 0 where a vertex has no triangle.
    """
    if weighting not in ("area", "equal"):
        raise ValueError(f"weighting is {weighting!r}; use area or equal")
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    faces = torch.linalg.cross(b - a, c - a)  # [..., F, 3], as long as twice the area
    if weighting == "equal":
        faces = F.normalize(faces, dim=-1)
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(-2, triangles[:, k], faces)
    return F.normalize(normals, dim=-1)
