"""One sheet over the whole person: a grid on a height field in the photo's camera, snapped to the face's oval.

Hair, hat, ears, neck and clothes are parts of one continuous surface, which is the head's at the top and the shoulders'
at the bottom: nothing tears, so nothing of the torso has to be invented.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.analysis.segmentation import FaceFrame, face_frame
from modules.analysis.segmentation_classes import CLOTHES, HAIR
from modules.face3d.coefficients import FaceCoefficients, camera_points
from modules.face3d.landmark_sets import FACE_OVAL
from modules.face3d.rasterizer import rasterize
from modules.geometry.camera import CAMERA_DISTANCE
from modules.geometry.rotation import rotation_matrix
from modules.rig.config import REFERENCE, RigConfig
from modules.rig.filters import blur, fill, grow, resized, shrink, smoothstep
from modules.rig.landmark_mesh import PhotoMesh, covered_triangles, unproject

_OFFSET = (
    0.31,
    0.57,
)  # pixels: no corner on a pixel's middle and no diagonal through one, which the rasteriser leaves out
_SNAP = 0.7  # cells from the oval within which a corner is moved onto it
_SPREAD = 0.28  # face widths over which the expression fades outside of the face
_SURE = 0.45  # face heights below the chin from which depth is that of the torso


@dataclass(frozen=True)
class Sheet:
    """V corners and their triangles.

    Attributes:
        places: [V, 2], where they are in the photo, fractions.
        points: [V, 3] posed, dm.
        basis: [V, 3, 64] dm, how the expression moves them, in the head's axes.
        weight: [V] in [0, 1], 1 moves with the head, 0 with the shoulders.
        hang: [V] in [0, 1], 1 for hair that hangs beside the face.
        under: [V] bool, corners inside of the oval, which lie under the face.
        triangles: [F, 3].
    """

    places: Tensor
    points: Tensor
    basis: Tensor
    weight: Tensor
    hang: Tensor
    under: Tensor
    triangles: Tensor


@dataclass(frozen=True)
class Person:
    """The photo's person at `REFERENCE` pixels.

    Attributes:
        alpha: [N, N] in [0, 1].
        classes: [N, N], the six of modules/analysis/segmentation_classes.py.
        frame: the axes of the face.
    """

    alpha: np.ndarray
    classes: np.ndarray
    frame: FaceFrame

    @classmethod
    def of(cls, alpha: np.ndarray, classes: np.ndarray, places: np.ndarray) -> "Person":
        """The person of alpha [S, S] and classes [H, H] of any size, with landmarks `places` [478, 2] in fractions."""
        frame = face_frame(places * REFERENCE, (REFERENCE, REFERENCE))
        return cls(resized(alpha, REFERENCE), at_reference(classes), frame)


def at_reference(classes: np.ndarray) -> np.ndarray:
    """Class numbers [H, H] at `REFERENCE` pixels a side."""
    rows = ((np.arange(REFERENCE) + 0.5) * len(classes) / REFERENCE).astype(int)
    return classes[rows[:, None], rows]


class _Grid:
    """Corners of the cells in pixels at `REFERENCE`, those near the oval moved onto it.

    Attributes:
        side: N, corners a side; `step`: pixels from one to the next.
        corners: [N^2, 2].
        on_oval: [N^2] bool; `first`, `second` [N^2] are the ends of the nearest side of the oval, and `along` [N^2]
            in [0, 1] where on it.
        at: [N^2, 2], the pixel that a corner lies in, within the picture.
    """

    def __init__(self, oval: np.ndarray, config: RigConfig) -> None:
        step, margin = REFERENCE / config.cells, REFERENCE * config.margin
        line = np.arange(-margin, REFERENCE + margin + 1, step)
        self.side, self.step = len(line), step
        corners = np.stack(np.meshgrid(line + _OFFSET[0], line + _OFFSET[1]), -1).reshape(-1, 2).astype(np.float32)
        sides = np.roll(oval, -1, 0) - oval
        along = np.clip(((corners[:, None] - oval) * sides).sum(-1) / (sides**2).sum(-1), 0, 1)
        feet = oval + along[..., None] * sides
        distances = np.linalg.norm(corners[:, None] - feet, axis=-1)
        nearest, rows = distances.argmin(1), np.arange(len(corners))
        self.on_oval = distances[rows, nearest] < _SNAP * step
        corners[self.on_oval] = feet[rows, nearest][self.on_oval]
        self.corners, self.along = corners, torch.from_numpy(along[rows, nearest]).float()
        names = torch.tensor(FACE_OVAL)
        self.first, self.second = names[nearest], names[(nearest + 1) % len(names)]
        self.at = np.clip(corners, 0, REFERENCE - 1).astype(int)

    def pick(self, image: np.ndarray) -> np.ndarray:
        """The values of an image [H, W, ...] at the corners [N^2, ...]."""
        return image[self.at[:, 1], self.at[:, 0]]

    def between(self, values: Tensor) -> Tensor:
        """Values of the landmarks [478, ...] at the corners' feet on the oval [N^2, ...]."""
        share = self.along.view(-1, *[1] * (values.ndim - 1))
        return values[self.first] + share * (values[self.second] - values[self.first])

    def image(self, values: np.ndarray) -> np.ndarray:
        """Values of the corners [N^2] as a picture [N, N]."""
        return np.asarray(values, np.float32).reshape(self.side, self.side)


def build_sheet(mesh: PhotoMesh, basis: Tensor, face: FaceCoefficients, person: Person, config: RigConfig) -> Sheet:
    """The sheet of a photo.

    Args:
        mesh: the face on the photo.
        basis: [478, 3, 64], of its landmarks.
        face: one row, for the pose.
    """
    oval, triangles = mesh.places[list(FACE_OVAL)].numpy() * REFERENCE, covered_triangles()
    grid = _Grid(oval.astype(np.float32), config)
    fragments = rasterize(camera_points(mesh.points)[None], triangles, REFERENCE)
    within = (np.abs(grid.corners - grid.at) < 1).all(1)
    inner = grid.pick(fragments.mask[0].numpy()) & within & ~grid.on_oval
    corners = triangles[torch.from_numpy(grid.pick(fragments.triangle[0].numpy()))]  # [V, 3]
    weights = torch.from_numpy(grid.pick(fragments.barycentric[0].numpy()))  # [V, 3]
    moved, off = _expression(grid, basis, person.frame, oval)
    on_oval, inside = (torch.from_numpy(mask)[:, None, None] for mask in (grid.on_oval, inner))
    moved = torch.where(inside, torch.einsum("vk,vkcm->vcm", weights, basis[corners]), moved)
    moved = torch.where(on_oval, grid.between(basis), moved)
    at_face = np.where(
        grid.on_oval, CAMERA_DISTANCE - grid.between(mesh.points[:, 2]).numpy(), grid.pick(fragments.depth[0].numpy())
    )
    at_face = np.where(inner | grid.on_oval, at_face, np.nan)
    depth = _depth(grid, at_face, off, person, _outline(face, person, config), config)
    places = torch.from_numpy(grid.corners / REFERENCE)
    points = torch.where(on_oval[..., 0], grid.between(mesh.points), unproject(places, torch.from_numpy(depth)))
    weight, hang = _skinning(grid, person)
    cells = _cells(grid, person)
    used, renumbered = torch.unique(torch.from_numpy(cells), return_inverse=True)
    columns = (places, points, moved, torch.from_numpy(weight), torch.from_numpy(hang), torch.from_numpy(inner))
    return Sheet(*(column[used] for column in columns), triangles=renumbered)


def _outline(face: FaceCoefficients, person: Person, config: RigConfig) -> float:
    """Depth of the person's outline in dm from the camera: a place of the head about the ears, or of long hair."""
    forwards = float(rotation_matrix(face.euler)[0, 2, 2])
    long_hair = min(2.0 * hanging_hair(person), 1.0)
    behind = config.outline_depth + long_hair * (config.hair_depth - config.outline_depth)
    return CAMERA_DISTANCE - float(face.translation[0, 2]) + behind * forwards


def hanging_hair(person: Person) -> float:
    """Share of hair in what lies beside the lower half of the face."""
    frame = person.frame
    across, below = np.abs(frame.across) / frame.width, frame.below / frame.height
    beside = (across > 0.5) & (across < 0.9) & (below > -0.5) & (below < 0.15)
    return float((person.classes[beside] == HAIR).mean()) if beside.any() else 0.0


def _expression(grid: _Grid, basis: Tensor, frame: FaceFrame, oval: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Expression outside of the face: that of the oval, mixed by distance, fading; and the distance [V] in pixels."""
    distance = torch.cdist(torch.from_numpy(grid.corners), torch.from_numpy(oval).float()) + 1e-3  # [V, 36]
    off = distance.amin(1).numpy() * ~grid.pick(frame.oval)
    fading = torch.from_numpy(np.exp(-((off / (_SPREAD * frame.width)) ** 2))).float()
    shares = distance**-3 / (distance**-3).sum(1, keepdim=True) * fading[:, None]
    return torch.einsum("vk,kcm->vcm", shares, basis[list(FACE_OVAL)]), off


def _depth(
    grid: _Grid, at_face: np.ndarray, off: np.ndarray, person: Person, outline: float, config: RigConfig
) -> np.ndarray:
    """Depth of the corners [V] in dm: the mesh in the face (`at_face`, nan elsewhere), a plane at the person's outline,
    the neck before it, and in between a harmonic surface that is rounded towards the outline."""
    in_face = ~np.isnan(at_face)
    inside = grid.pick(person.alpha) > 0.5
    given = in_face | (inside & (_below(grid, person.frame) > _SURE))
    near = fill(grid.image(np.where(in_face, at_face, outline - config.neck_depth)), grid.image(given))
    share = np.clip(fill(grid.image(given), grid.image(given | ~inside)), 0, 1)
    depth = outline + np.sqrt(share * (2 - share)) * (near - outline)
    sharp, calm = blur(depth, 0.8).ravel(), blur(depth, 2.5).ravel()
    around = sharp + smoothstep(off * 12.8 / REFERENCE) * (calm - sharp)
    return np.where(in_face, at_face, around).astype(np.float32)


def _below(grid: _Grid, frame: FaceFrame) -> np.ndarray:
    """How far the corners lie below the chin [V], in face heights; also beyond the picture."""
    return (grid.pick(frame.below) + grid.corners[:, 1] - grid.at[:, 1]) / frame.height


def _skinning(grid: _Grid, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Share of the head [V], and how far a corner is hanging hair [V].

    The head's share fades below the chin, later in hair; clothes belong to the shoulders. Hair beside the face fades
    from above the ears: it moves with the head but turns less.
    """
    frame = person.frame
    hair, cloth = (np.float32(person.classes == name) for name in (HAIR, CLOTHES))
    below, across = _below(grid, frame), np.abs(grid.pick(frame.across)) / frame.width
    hairy = grid.image(grid.pick(hair))
    weight = smoothstep(1 - np.maximum(below, -0.05) / (0.75 + 0.55 * blur(hairy, 2).ravel()))
    beside = smoothstep(1.9 - 1.3 * across + 2 * grid.pick(blur(hair, 8)))
    weight *= 1 + (beside - 1) * np.clip(below / 0.15, 0, 1)
    hang = np.clip(blur(hairy, 1.5).ravel(), 0, 1) * (across > 0.45)
    weight += hang * (np.minimum(weight, smoothstep(1 - (below + 0.7) / 1.3)) - weight)
    dressed = grid.pick(blur(grow(cloth, 9), 14)) * smoothstep(below / 0.25 + 0.5)
    weight = blur(grid.image(weight * (1 - 0.85 * dressed)), 1).ravel()
    return weight.astype(np.float32), hang.astype(np.float32)


def _cells(grid: _Grid, person: Person) -> np.ndarray:
    """Triangles [F, 3] of the cells that show something of the person, without the inside of the face."""
    numbers = np.arange(grid.side**2).reshape(grid.side, grid.side)
    quads = np.stack([numbers[:-1, :-1], numbers[:-1, 1:], numbers[1:, 1:], numbers[1:, :-1]], -1).reshape(-1, 4)
    shown = grid.pick(grow(person.alpha > 0.03, 2 * int(grid.step) + 1))
    core = grid.pick(shrink(person.frame.oval, 17)) & ~grid.on_oval
    quads = quads[shown[quads].any(1) & ~core[quads].all(1)]
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
