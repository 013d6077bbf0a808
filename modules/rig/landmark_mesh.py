"""The face as a mesh of MediaPipe's 478 landmarks, on the photo to the pixel, with holes at eyes and mouth.

Whatever the face model, only its landmarks are used: their mean shape, and how they move with the expression.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import CAMERA_DISTANCE, FITTING_FOCAL_LENGTH
from modules.rig.filters import soft

MESH_POINTS, ALL_POINTS = 468, 478  # without and with the irises
# Rings of the holes: corner, upper edge, corner, lower edge backwards.
# fmt: off
MOUTH_RING = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE_RING = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE_RING = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
# fmt: on
IRIS_MIDDLES = (468, 473)  # middles of the right and the left one
COPIED = (*MOUTH_RING, *RIGHT_EYE_RING, *LEFT_EYE_RING)  # the rims of what lies behind the holes
LIDS_ABOVE = (*RIGHT_EYE_RING[1:8], *LEFT_EYE_RING[1:8])
LIDS_BELOW = (*RIGHT_EYE_RING[:8:-1], *LEFT_EYE_RING[:8:-1])
UPPER_LIP, LOWER_LIP = MOUTH_RING[1:10], MOUTH_RING[:10:-1]
_GRAZING, _FRONTAL = 0.15, 0.45  # cosine to the ray from which a landmark of the photo says something of the form


@dataclass(frozen=True)
class LandmarkModel:
    """What the rig takes of a face model.

    Attributes:
        shape: [478, 3] dm, the landmarks of the mean face.
        basis: [478, 3, 64] dm, how they move with the expression.
        neutral: [478, 3] dm, the person's own without expression.
        twin: [478], the landmark on the other side of the face.
    """

    shape: Tensor
    basis: Tensor
    neutral: Tensor
    twin: Tensor

    @classmethod
    def of(cls, model: MorphableModel, identity: Tensor) -> "LandmarkModel":
        """The landmarks of `model` for the person `identity` [1, 80]; those it lacks follow their neighbours."""
        count = max(model.counts)
        mean, identity_basis, basis = model.landmark_basis(count)
        neutral = mean + torch.einsum("k,lck->lc", identity[0], identity_basis)
        valid = model.embedding(count).valid
        shape, neutral, basis = (_completed(values, valid) for values in (mean, neutral, basis))
        face = shape[:MESH_POINTS]
        twin = torch.cdist(face * face.new_tensor([-1.0, 1.0, 1.0]), face).argmin(1)
        irises = torch.arange(MESH_POINTS, ALL_POINTS, device=twin.device)
        return cls(shape, basis, neutral, torch.cat([twin, irises]))

    def moved(self, expression: Tensor) -> Tensor:
        """The person's landmarks [B, 478, 3] dm in the model's axes, of expressions [B, 64]."""
        return self.neutral + torch.einsum("bk,lck->blc", expression, self.basis)


def _completed(values: Tensor, valid: Tensor) -> Tensor:
    """Values [L, ...] of 468 or 478 landmarks -> [478, ...]; those that are not valid are means of their neighbours,
    irises without a place lie in the middle of their eye."""
    whole = values.new_zeros(ALL_POINTS, *values.shape[1:])
    whole[: len(values)] = values
    known = torch.zeros(ALL_POINTS, dtype=torch.bool, device=values.device)
    known[: len(valid)] = valid
    corners = face_triangles().to(values.device)
    first, second = (torch.cat([corners[:, k] for k in order]) for order in ((0, 1, 2, 1, 2, 0), (1, 2, 0, 0, 1, 2)))
    flat = whole.flatten(1)
    while not known[:MESH_POINTS].all():
        weight = known.to(flat.dtype)[second]
        total = torch.zeros_like(flat).index_add(0, first, flat[second] * weight[:, None])
        count = flat.new_zeros(ALL_POINTS).index_add(0, first, weight)
        new = ~known & (count > 0)
        if not new.any():
            raise ValueError("the face model has no landmarks in the face")
        flat = torch.where(new[:, None], total / count.clamp(min=1)[:, None], flat)
        known = known | new
    for middle, ring in zip(IRIS_MIDDLES, (RIGHT_EYE_RING, LEFT_EYE_RING)):
        part = slice(middle, middle + 5)
        if not known[part].all():
            flat[part] = flat[list(ring)].mean(0)
    return flat.view_as(whole)


@cache
def face_triangles() -> Tensor:
    """The 852 triangles of MediaPipe's mesh, which has holes at eyes and mouth: [852, 3], rows of the landmarks."""
    edges = FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION  # three in a row are a triangle
    return torch.tensor([edge.start for edge in edges]).view(-1, 3)


def ring_triangles(ring: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """A hole with N points covered by a strip between its upper and its lower edge: N - 2 triangles."""
    half = len(ring) // 2
    upper, lower = ring[: half + 1], (ring[0], *ring[:half:-1], ring[half])
    strip = []
    for k in range(half):
        strip += [(upper[k], upper[k + 1], lower[k + 1]), (upper[k], lower[k + 1], lower[k])]
    return [corners for corners in strip if len(set(corners)) == 3]


def covered_triangles() -> Tensor:
    """The triangles of the face and those that cover its holes, [F, 3]."""
    rings = (RIGHT_EYE_RING, LEFT_EYE_RING, MOUTH_RING)
    return torch.cat([face_triangles(), torch.tensor([corners for ring in rings for corners in ring_triangles(ring)])])


def unproject(places: Tensor, depth: Tensor) -> Tensor:
    """Points at picture fractions [..., 2] and a depth [...] in dm from the camera -> [..., 3] posed, dm.

    The inverse of `project` of modules/face3d/coefficients.py.
    """
    x, y = (places - 0.5).unbind(-1)
    across, up = x * depth / FITTING_FOCAL_LENGTH, -y * depth / FITTING_FOCAL_LENGTH
    return torch.stack([across, up, CAMERA_DISTANCE - depth], dim=-1)


@dataclass(frozen=True)
class PhotoMesh:
    """The landmarks of the photo in space.

    Attributes:
        places: [478, 2], in the photo, fractions: the landmarks, but where the face turns away.
        points: [478, 3] posed, dm; they project to `places`.
        facing: [478], cosine between normal and ray; 1 towards the camera.
        alike: [478] in [0, 1], 1 where a landmark is seen as well as its twin, or better.
    """

    places: Tensor
    points: Tensor
    facing: Tensor
    alike: Tensor


def photo_mesh(landmarks: Tensor, model: LandmarkModel, face: FaceCoefficients) -> PhotoMesh:
    """Put each landmark of the photo on the ray of its pixel at the depth of the fitted model.

    Where the photo grazes the far side of a turned face, its pixels say little of the form: there the points are the
    model's, moved by the smooth part of the difference.

    Args:
        landmarks: [478, 2], fractions of the photo.
        face: as fitted to it, one row.
    """
    fitted = pose_points(model.moved(face.expression), face.euler, face.translation)[0]
    points = unproject(landmarks, CAMERA_DISTANCE - fitted[:, 2])
    facing = _facing(points, model.shape)
    alike = soft(1.4 - (facing[model.twin] - facing) / 0.25)
    exact = torch.maximum(soft((facing - _GRAZING) / (_FRONTAL - _GRAZING)), alike)[:, None]
    shape = model.shape[:MESH_POINTS]
    kernel = torch.exp(-((torch.cdist(shape, shape) / 0.15) ** 2)) * (facing[:MESH_POINTS] > 0.4) + 1e-9
    difference = points - fitted
    calm = difference.clone()
    calm[:MESH_POINTS] = kernel @ difference[:MESH_POINTS] / kernel.sum(1, keepdim=True)
    points = fitted + calm + exact * (difference - calm)
    return PhotoMesh(project(points), points, facing, alike)


def _facing(points: Tensor, shape: Tensor) -> Tensor:
    """Cosine [478] between the normals of posed points [478, 3] and the rays to the camera; 1 at the irises."""
    triangles = oriented(face_triangles().to(points.device), shape)
    a, b, c = points[triangles].unbind(1)
    normals = torch.zeros_like(points).index_add(
        0, triangles.flatten(), torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
    )
    rays = points.new_tensor([0.0, 0.0, CAMERA_DISTANCE]) - points
    facing = (F.normalize(normals, dim=-1) * F.normalize(rays, dim=-1)).sum(-1)
    facing[MESH_POINTS:] = 1
    return facing


def oriented(triangles: Tensor, shape: Tensor) -> Tensor:
    """Triangles [F, 3] turned so that all are counter-clockwise seen from outside of a face `shape` [478, 3]."""
    a, b, c = shape[triangles].unbind(1)
    inside = shape.mean(0) - shape.new_tensor([0.0, 0.0, 1.0])
    outwards = (torch.linalg.cross(b - a, c - a) * ((a + b + c) / 3 - inside)).sum(-1) > 0
    return torch.where(outwards[:, None], triangles, triangles.flip(1))
