"""The photo itself, posed in 3D: what depends on the photo alone, built once (modules/rig/draw.py draws it).

From back to front: a background plate; the sheet of the whole person; the face, whose landmarks lie on the photo to the
pixel; behind its holes eyes and mouth. Nothing is learnt: with the photo's own expression and pose the frame is the
photo. Any face model with MediaPipe's landmarks will do.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modules.analysis.segmentation_classes import HAIR
from modules.face3d.coefficients import EXPRESSION_SIZE, FaceCoefficients, project
from modules.face3d.landmark_sets import FACE_OVAL
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import CAMERA_DISTANCE
from modules.rig.config import REFERENCE, RigConfig
from modules.rig.filters import polygon, resized
from modules.rig.interior import PaintedMouth, eyes_texture, opening_texture, without_holes
from modules.rig.landmark_mesh import (
    ALL_POINTS,
    COPIED,
    LEFT_EYE_RING,
    LIDS_ABOVE,
    LIDS_BELOW,
    MOUTH_RING,
    RIGHT_EYE_RING,
    LandmarkModel,
    PhotoMesh,
    face_triangles,
    photo_mesh,
    ring_triangles,
)
from modules.rig.lids import COUNT, LidSkin, lash_points
from modules.rig.lips import LipSkin
from modules.rig.matte import foreground, matte, person_texture, with_face
from modules.rig.mirror import mirror
from modules.rig.motion import SHUT_LIDS, Skeleton
from modules.rig.plate import background_plate
from modules.rig.sheet import Person, Sheet, at_reference, build_sheet

PERSON_LAYER, EYE_LAYER, MOUTH_LAYER = range(3)


@dataclass(frozen=True)
class RigPhoto:
    """What the rig needs of a photo.

    Attributes:
        picture: [S, S, 3] uint8, the square crop.
        classes: [S, S] uint8, the six classes (modules/analysis/segmentation_classes.py).
        person: [S, S] in [0, 1], probability of a person; None takes it from the classes.
        landmarks: [478, 2], fractions of the crop, x right, y down.
        face: the fitted face, one row.
    """

    picture: np.ndarray
    classes: np.ndarray
    person: np.ndarray | None
    landmarks: np.ndarray
    face: FaceCoefficients


class PhotoRig:
    """One photo, ready to be moved.

    Attributes:
        skeleton: all vertices and how they move.
        triangles: [F, 3]; layers: [F] int64, `PERSON_LAYER`, `EYE_LAYER` or `MOUTH_LAYER` of each.
        attributes: [V, 8] of the vertices: place in the photo (2, fractions), place of the twin (2; for the rims of the
            interior set by frame), share of the own texture, gain of the twin's (3).
        lids, lips: which of them take other skin when eyes and mouth close.
        texture: [T, T, 4], the person's colours and alpha in [0, 1], `margin` pixels wider than the photo on each side.
        eyes: [S, S, 3] in [0, 1]; opening: [S, S, 4], the photo's open mouth and its share; mouth: what to paint
            elsewhere.
        plate: [1, 3, S, S] in [-1, 1], the background.
    """

    def __init__(self, photo: RigPhoto, model: MorphableModel, config: RigConfig | None = None) -> None:
        """Everything on the CPU, in half a second or so; `to` moves it."""
        self.config = config = config or RigConfig()
        size = len(photo.picture)
        places = np.asarray(photo.landmarks, np.float32)
        landmarks = LandmarkModel.of(model, photo.face.identity)
        mesh = photo_mesh(torch.from_numpy(places), landmarks, photo.face)
        oval = polygon(places[list(FACE_OVAL)], REFERENCE)
        alpha = matte(photo.picture, _probability(photo, oval))
        colours = foreground(photo.picture, alpha)
        person = Person.of(alpha, photo.classes, places)
        sheet = build_sheet(mesh, landmarks.basis, photo.face, person, config)
        self.skeleton = Skeleton(mesh, sheet, landmarks, photo.face, _shut_lids(model, landmarks), config)
        own = mirror(resized(colours, REFERENCE), person.classes == HAIR, mesh, landmarks)
        self.lids = LidSkin.of(mesh, own[0], first=ALL_POINTS + len(sheet.places))
        self.lips = LipSkin.of(mesh)
        self.triangles, self.layers = _triangles(sheet, self.lids)
        self.attributes = _attributes(mesh, sheet, landmarks, *own)
        self.attributes[self.lids.around, 2:4] = self.lids.places
        self.attributes[self.lids.around, 5:] = 1
        self.margin = round(config.margin * size)
        self.texture = torch.from_numpy(person_texture(without_holes(colours, places), alpha, self.margin))
        self.eyes = torch.from_numpy(eyes_texture(photo.picture, places))
        self.opening = torch.from_numpy(opening_texture(photo.picture, places))
        self.mouth = PaintedMouth.of_photo(
            resized(photo.picture, REFERENCE), places, person.frame.oval, landmarks.neutral
        )
        plate = torch.from_numpy(background_plate(photo.picture, alpha)) / 127.5 - 1
        self.plate = plate.permute(2, 0, 1)[None].contiguous()

    @property
    def nearest(self) -> float:
        """Depth in dm of the nearest point of the face in the photo."""
        return float(CAMERA_DISTANCE - self.skeleton.still[:ALL_POINTS, 2].max())

    def to(self, device: torch.device) -> "PhotoRig":
        """The same rig on another device."""
        return _on(self, device)


def _on(value: Any, device: torch.device) -> Any:
    """A copy of an object of this folder with all its tensors on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if not hasattr(value, "__dict__") or isinstance(value, RigConfig):
        return value
    moved = copy(value)
    moved.__dict__.update({name: _on(part, device) for name, part in value.__dict__.items()})
    return moved


def _probability(photo: RigPhoto, oval: np.ndarray) -> np.ndarray:
    """Probability of the person at `REFERENCE` pixels; the face is surely of it."""
    person = at_reference(photo.classes) > 0 if photo.person is None else photo.person
    return with_face(np.maximum(resized(person, REFERENCE), oval), oval)


def _shut_lids(model: MorphableModel, landmarks: LandmarkModel) -> Tensor:
    """Distances [14] dm between the lids' landmarks when the model's eyes are shut."""
    if not model.blink_modes:
        return torch.full((len(LIDS_ABOVE),), SHUT_LIDS)
    blink = torch.zeros(1, EXPRESSION_SIZE)
    blink[:, model.blink_modes] = 1
    shut = landmarks.moved(blink)[0, :, 1]
    return (shut[list(LIDS_ABOVE)] - shut[list(LIDS_BELOW)]).clamp(min=SHUT_LIDS)


def _triangles(sheet: Sheet, lids: LidSkin) -> tuple[Tensor, Tensor]:
    """All triangles [F, 3] and their layers [F]: face, sheet, and what lies behind the eyes and the mouth."""
    first_copy = ALL_POINTS + len(sheet.places) + 2 * COUNT
    row = {landmark: first_copy + k for k, landmark in enumerate(COPIED)}

    def behind(*rings: tuple[int, ...]) -> Tensor:
        return torch.tensor([[row[c] for c in corners] for ring in rings for corners in ring_triangles(ring)])

    parts = [
        torch.cat([face_triangles(), sheet.triangles + ALL_POINTS, lids.triangles]),
        behind(RIGHT_EYE_RING, LEFT_EYE_RING),
        behind(MOUTH_RING),
    ]
    return torch.cat(parts), torch.repeat_interleave(torch.tensor([len(part) for part in parts]))


def _attributes(mesh: PhotoMesh, sheet: Sheet, model: LandmarkModel, seen: Tensor, gain: Tensor) -> Tensor:
    """`PhotoRig.attributes`."""
    copies = mesh.places[list((*LIDS_ABOVE, *COPIED))]
    lashes = project(lash_points(mesh.points)[None])[0]
    places = torch.cat([mesh.places, sheet.places, copies[:COUNT], lashes, copies[COUNT:]])
    others = len(places) - ALL_POINTS
    behind = torch.zeros(others - len(sheet.places), 2)
    twins = torch.cat([mesh.places[model.twin], _twins_of_sheet(mesh, sheet, model), behind])
    shares = torch.cat([torch.cat([seen, torch.ones(others)])[:, None], torch.cat([gain, torch.ones(others, 3)])], 1)
    return torch.cat([places, twins, shares], dim=1)


def _twins_of_sheet(mesh: PhotoMesh, sheet: Sheet, model: LandmarkModel) -> Tensor:
    """Where in the photo [N, 2] the other side of the face goes on beyond its border as the sheet does here.

    Pixels between face and sheet mix the twins' places of both.
    """
    border = torch.tensor(FACE_OVAL)
    nearest = border[torch.cdist(sheet.places, mesh.places[border]).argmin(dim=1)]
    beyond = sheet.places - mesh.places[nearest]
    return mesh.places[model.twin[nearest]] + beyond * beyond.new_tensor([-1.0, 1.0])
