"""Closed eyes: the lid that comes down shows the skin from below its eye, mirrored, as the photo does not show its own.

Stretched over the eye, what lies above it (lashes, folds, a low brow) would be dark streaks. The lashes come down with
the lid's edge as they are, on a strip before it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import project
from modules.rig.landmark_mesh import LIDS_ABOVE, LIDS_BELOW, PhotoMesh, face_triangles

# fmt: off
_CREASES = (247, 30, 29, 27, 28, 56, 190, 467, 260, 259, 257, 258, 286, 414)  # above each of LIDS_ABOVE
_POUCHES = (25, 110, 24, 23, 22, 26, 112, 255, 339, 254, 253, 252, 256, 341)  # below each of LIDS_BELOW
# fmt: on
_CORNERS = ((33, 133), (263, 362))
_SEEN = 0.9  # share of their own texture from which an eye's lids are not mirrored from the other eye's
_AT_CREASE = 0.75  # of the lid's edge, how far the skin from below takes over at the crease
_LASHES, _MOST = 0.3, 0.8  # height of the strip: share of the eye's opening, but not more of the way to the crease
COUNT = len(LIDS_ABOVE)
PER_EYE = COUNT // 2


def lash_points(points: Tensor) -> Tensor:
    """The upper edge [14, 3] of the strip of lashes, whose lower one are LIDS_ABOVE, of landmarks [478, 3]."""
    edge, crease, lower = (points[list(rows)] for rows in (LIDS_ABOVE, _CREASES, LIDS_BELOW))
    way = crease - edge
    length = way.norm(dim=1, keepdim=True)
    return edge + way / length * torch.minimum(_LASHES * (edge - lower).norm(dim=1, keepdim=True), _MOST * length)


@dataclass(frozen=True)
class LidSkin:
    """Which vertices take other skin when lids close, and the strips of lashes, of the eyes that the photo shows.

    Attributes:
        rows: [K] of the vertices; lid: [K], for each the column of `Pose.shut`; reach: [K], how far it takes over.
        around: [N] vertices near them; places: [N, 2], where in the photo each finds the skin, fractions.
        triangles: [F, 3], the strips.
    """

    rows: Tensor
    lid: Tensor
    reach: Tensor
    around: Tensor
    places: Tensor
    triangles: Tensor

    @classmethod
    def of(cls, mesh: PhotoMesh, seen: Tensor, first: int) -> "LidSkin":
        """
        Args:
            seen: [478], share of each landmark's own texture; lids of an eye that is mirrored stay so.
            first: vertex from which the strips' 14 lower and 14 upper points are counted.
        """
        upper = project(lash_points(mesh.points)[None])[0]
        parts = []
        for eye, corners in enumerate(_CORNERS):
            mine = slice(eye * PER_EYE, (eye + 1) * PER_EYE)
            moving, still = torch.tensor([*LIDS_ABOVE[mine], *_CREASES[mine]]), torch.tensor(LIDS_BELOW[mine])
            if float(seen[moving].min()) < _SEEN:
                continue
            lids, near, below = torch.arange(mine.start, mine.stop), _touching(moving), _touching(still)
            below = below[~torch.isin(below, near)]  # find skin where they are: pixels may mix with those of `near`
            roots, tips = first + lids, first + COUNT + lids
            edges = torch.cat([mesh.places[list(LIDS_ABOVE[mine])], upper[mine]])
            places = _mirrored(mesh.places, torch.cat([mesh.places[near], edges]), corners, mine)
            reach = torch.tensor([1.0, _AT_CREASE, 1.0]).repeat_interleave(PER_EYE)
            strip = _strip(corners, roots.tolist(), tips.tolist())
            around, places = torch.cat([near, roots, tips, below]), torch.cat([places, mesh.places[below]])
            parts.append((torch.cat([moving, tips]), lids.repeat(3), reach, around, places, strip))
        empty = torch.zeros(0, dtype=torch.int64)
        none = (empty, empty, torch.zeros(0), empty, torch.zeros(0, 2), torch.zeros(0, 3, dtype=torch.int64))
        return cls(*(torch.cat(tensors) for tensors in zip(none, *parts)))

    def shares(self, shut: Tensor) -> Tensor:
        """Share of the own texture [B, K] of `rows`, of lids shut by `shut` [B, 14] in [0, 1]."""
        return 1 - self.reach * shut[:, self.lid]


def _strip(corners: tuple[int, int], roots: list[int], tips: list[int]) -> Tensor:
    """Triangles [2 P, 3] between two rows of P vertices, which meet in the corners."""
    below, above = (corners[0], *roots, corners[1]), (corners[0], *tips, corners[1])
    squares = range(1, len(roots))
    faces = [(below[0], below[1], above[1]), (below[-2], below[-1], above[-2])]
    for k in squares:
        faces += [(below[k], below[k + 1], above[k + 1]), (below[k], above[k + 1], above[k])]
    return torch.tensor(faces)


def _touching(landmarks: Tensor) -> Tensor:
    """The landmarks of all triangles that have one of `landmarks`, these included."""
    corners = face_triangles()
    return corners[torch.isin(corners, landmarks).any(1)].unique()


def _mirrored(places: Tensor, points: Tensor, corners: tuple[int, int], mine: slice) -> Tensor:
    """Points [N, 2] near an eye, reflected at the line of its corners so that the upper lid's edge falls on the skin
    below the lower lashes.

    Args:
        places: [478, 2], the landmarks, fractions of the photo, as all points.
        mine: of `LIDS_ABOVE`, those of the eye.
    """
    first, last = places[list(corners)]
    along = (last - first) / (last - first).norm()
    across = torch.stack([-along[1], along[0]])
    edge, below, lower = (places[list(rows[mine])] - first for rows in (LIDS_ABOVE, _POUCHES, LIDS_BELOW))
    start = (below + lower) @ across / 2  # half-way from the lower lid's edge to the fold below it
    sums = np.interp((points - first) @ along, edge @ along, start + edge @ across)
    return points + (torch.from_numpy(sums).to(points) - 2 * (points - first) @ across)[:, None] * across
