"""Surfaces in light: vertex normals, the colours of a textured face model, spherical harmonics (spec face3d 1.3)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

WHITE = 255.0             # the files of face models hold colours of 0..255
AMBIENT = 0.8             # added to the constant harmonic of each colour
HARMONICS = 9


def vertex_normals(vertices: Tensor, triangles: Tensor, weighting: Literal["area", "equal"] = "area") -> Tensor:
    """Mean normals of the triangles around each vertex.

    Args:
        vertices: [..., V, 3].
        triangles: [F, 3] int64, counter-clockwise seen from outside.
        weighting: "area": large triangles count more; "equal": all the same, as the original does.
    Returns:
        [..., V, 3], unit, outwards; 0 where a vertex has no triangle.
    """
    if weighting not in ("area", "equal"):
        raise ValueError(f"weighting is {weighting!r}; use area or equal")
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    faces = torch.linalg.cross(b - a, c - a)                                # [..., F, 3], as long as twice the area
    if weighting == "equal":
        faces = F.normalize(faces, dim=-1)
    normals = torch.zeros_like(vertices)
    for k in range(3):
        normals.index_add_(-2, triangles[:, k], faces)
    return F.normalize(normals, dim=-1)


def vertex_texture(mean: Tensor, basis: Tensor, coefficients: Tensor) -> Tensor:
    """Colours of a face without light.

    Args:
        mean: [V, 3] RGB, 0..255 (`meantex` of the Basel model).
        basis: [V, 3, K] (`texBase`).
        coefficients: [B, K] standard deviations.
    Returns:
        [B, V, 3] RGB; 0..1 is black to white, not clamped.
    """
    return (mean + torch.einsum("bk,vck->bvc", coefficients, basis)) / WHITE


def harmonic_light(normals: Tensor, gamma: Tensor) -> Tensor:
    """What light from all sides, given by nine spherical harmonics for each colour, does to a matt surface.

    Args:
        normals: [B, V, 3] unit, in the axes of the camera (posed as the head is).
        gamma: [B, 27]: 9 numbers for red, for green, for blue; 0 is white light of `AMBIENT` from everywhere.
    Returns:
        [B, V, 3] factors on the texture's RGB.
    """
    if gamma.shape[-1] != 3 * HARMONICS:
        raise ValueError(f"gamma has {gamma.shape[-1]} numbers; it must have {3 * HARMONICS}")
    weights = gamma.unflatten(-1, (3, HARMONICS)).clone()                   # [B, 3, 9]
    weights[..., 0] += AMBIENT
    return torch.einsum("bvk,bck->bvc", _harmonics(normals), weights)


def _harmonics(normals: Tensor) -> Tensor:
    """Real spherical harmonics of degree 0 to 2 times the cosine lobe of their degree: [..., 3] -> [..., 9]."""
    x, y, z = normals.unbind(-1)
    constant = math.pi / math.sqrt(4 * math.pi)
    linear = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
    square = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
    return torch.stack([
        torch.full_like(x, constant), -linear * y, linear * z, -linear * x, square * x * y, -square * y * z,
        square / (2 * math.sqrt(3)) * (3 * z**2 - 1), -square * x * z, square / 2 * (x**2 - y**2)], dim=-1)
