"""What of a person moves with the head, as triangles with the skin and hair of one frame: the face's, and around them
those of hair, ears and forehead, as the sheet of a photo has them."""

from dataclasses import dataclass

import numpy as np
import torch

from modules.face3d.coefficients import FaceCoefficients, pose_points, project, unpose_points
from modules.face3d.morphable_model import MorphableModel
from modules.layers.precision import full_precision
from modules.rig.config import REFERENCE, RigConfig
from modules.rig.landmark_mesh import LandmarkModel, face_triangles, photo_mesh
from modules.rig.sheet import Person, Sheet, at_reference, build_sheet

_WITH_HEAD = 0.8  # share of the head from which a corner of the sheet counts as of it
_BESIDE_FACE = 0.3  # how much a triangle outside of the face says by one within: its depth is a guess, and hair sways


@dataclass(frozen=True)
class HeadSurface:
    """V vertices and N triangles; the first 478 vertices are the landmarks.

    Attributes:
        canonical: [V, 3] dm in the head's axes, with the expression of the frame.
        basis: [V, 3, 64] dm, how they move with the expression.
        corners: [N, 3].
        share: [N], how much a triangle says, 1 in the mean of the face's: its area, less of it beside the face.
        outwards: [N], 1 or -1, by which the cross product of a triangle's edges points out of the head.
    """

    canonical: np.ndarray
    basis: np.ndarray
    corners: np.ndarray
    share: np.ndarray
    outwards: np.ndarray

    @property
    def of_face(self) -> int:
        """How many of the triangles are the face's; they come first."""
        return len(face_triangles())

    @classmethod
    def of(cls, model: MorphableModel, face: FaceCoefficients, classes: np.ndarray | None = None) -> "HeadSurface":
        """The surface of a frame.

        Args:
            face: as fitted to it, one row.
            classes: [H, H], the six classes of the frame, square; None leaves the face alone.
        """
        landmarks = LandmarkModel.of(model, face.identity)
        moved = landmarks.moved(face.expression)[0]
        parts = [(moved, landmarks.basis, face_triangles())]
        if classes is not None:
            parts.append(_around(landmarks, face, classes))
        firsts = np.cumsum([0, *(len(points) for points, _, _ in parts[:-1])])
        canonical, basis = (torch.cat(rows).double().cpu().numpy() for rows in list(zip(*parts))[:2])
        groups = [triangles.cpu().numpy() + first for first, (_, _, triangles) in zip(firsts, parts)]
        normals = [crossed(canonical[group]) for group in groups]
        areas = [np.linalg.norm(normal, axis=1) for normal in normals]
        share = [area / areas[0].mean() * (1 if k == 0 else _BESIDE_FACE) for k, area in enumerate(areas)]
        outwards = [np.full(len(normal), np.sign(np.median(normal[:, 2]))) for normal in normals]
        return cls(canonical, basis, *(np.concatenate(rows) for rows in (groups, share, outwards)))


@full_precision()
def _around(
    landmarks: LandmarkModel, face: FaceCoefficients, classes: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points [V, 3] in the head's axes, basis [V, 3, 64] and triangles [N, 3] of the sheet that go with the head."""
    places = project(pose_points(landmarks.moved(face.expression), face.euler, face.translation))[0].cpu()
    person = Person.of(at_reference(classes) > 0, classes, places.numpy())
    mesh = photo_mesh(places, landmarks, face)
    sheet = build_sheet(mesh, landmarks.basis, face, person, RigConfig())
    points = unpose_points(sheet.points[None], face.euler, face.translation)[0]
    return points, sheet.basis, _with_head(sheet, person)


def _with_head(sheet: Sheet, person: Person) -> torch.Tensor:
    """The triangles [N, 3] that show the person, beside the face, and move with the head."""
    corners = sheet.triangles
    middle = sheet.places[corners].mean(1)
    at = (middle * REFERENCE).long().clamp(0, REFERENCE - 1)
    shown = torch.from_numpy(person.classes > 0)[at[:, 1], at[:, 0]] & ((middle > 0) & (middle < 1)).all(1)
    return corners[shown & (sheet.weight[corners] > _WITH_HEAD).all(1) & ~sheet.under[corners].any(1)]


def crossed(corners: np.ndarray) -> np.ndarray:
    """Cross products of the edges of triangles [N, 3, 3], each twice the area long: [N, 3]."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
