"""The procedural morphable head: mesh, 80 identity and 64 expression modes, landmarks. Nothing is downloaded.

Every shape comes from the numbers in template.py, shell.py, parts.py and hair.py; identity_modes.py and
expression_modes.py move it. Units: decimetres, x to the right of a frontal picture, y up, z towards the viewer; the
origin is the centre of the area of the average face's skin.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules.face3d.fit_config import NAMED_ACTIONS
from modules.face3d.landmark_sets import LANDMARKS_68
from modules.face3d.morphable_model import FaceModelData, LandmarkEmbedding, MorphableModel
from modules.procedural.expression_modes import Rig, expression_modes
from modules.procedural.hair import STYLES, hair_grid, hair_points
from modules.procedural.identity_modes import identity_modes
from modules.procedural.parts import (
    Part,
    ears,
    eyeballs,
    inner_lips,
    lid_rims,
    mouth_cavity,
    neck,
    shoulders,
    teeth,
    tongue,
)
from modules.procedural.shell import Shell, build_shell

GROUPS = ("skin", "lids", "mouth", "teeth", "tongue", "eyeballs", "ears", "neck", "shoulders", "hair")
# fmt: off
EXPRESSIONS = (
    "jaw_open", "lip_corners", "pucker", "lips_press", "blink_left", "blink_right", "brows_up", "brows_down",
    "gaze_x", "gaze_y", "smile", "funnel", "upper_lip_up", "lower_lip_down", "lip_tuck", "lips_close", "frown",
    "mouth_side", "dimple", "cheek_puff", "nose_wrinkle", "squint", "eyes_wide", "brow_inner_up", "brow_outer_up",
    "jaw_side", "jaw_forward", "tongue_up", "tongue_out",
)
# fmt: on
_LANDMARKS = Path(__file__).parent / "landmarks.npz"


class ProceduralModel(MorphableModel):
    """A MorphableModel with what the painter needs.

    Args:
        data: the arrays; `mean` already has its origin in the centre of the face's area.
        groups: [V] index into GROUPS.
        paint: [V, 3] coordinates for the painter (on skin: template.py's coordinates, dm).
        lip: [V] 1 on and around the upper lip, -1 the lower, 0 elsewhere.
        default_hair: [H, 3] dm, hair of the average head in template.py's coordinates, as `Person.hair_points`.
    """

    groups: Tensor  # [V] uint8
    paint: Tensor  # [V, 3]
    lip: Tensor  # [V]
    default_hair: Tensor  # [H, 3] dm

    def __init__(self, data: FaceModelData, groups: Tensor, paint: Tensor, lip: Tensor, default_hair: Tensor) -> None:
        super().__init__(data)
        self.mean.copy_(data.mean)  # the vertices' mean would depend on how densely each part is meshed
        self.register_buffer("groups", groups)
        self.register_buffer("paint", paint)
        self.register_buffer("lip", lip)
        self.register_buffer("default_hair", default_hair)

    def vertex_group(self, name: str) -> Tensor:
        """[V] bool: vertices of the part `name` (of GROUPS)."""
        return self.groups == GROUPS.index(name)

    def triangle_group(self, name: str) -> Tensor:
        """[F] bool: triangles of the part `name`; a triangle belongs to the latest part that it touches."""
        return self.groups[self.triangles].amax(dim=1) == GROUPS.index(name)


def expression_index(name: str) -> int:
    """Column of an action of EXPRESSIONS among the 64 expression coefficients."""
    return EXPRESSIONS.index(name)


@lru_cache(maxsize=1)
def procedural_model() -> ProceduralModel:
    """The procedural head; built once, the same every time."""
    return build_model(_load_landmarks(_LANDMARKS))


def build_model(landmarks: dict[int, LandmarkEmbedding]) -> ProceduralModel:
    """The procedural head with given landmarks, by their number (`scripts.calibrate_landmarks` starts without)."""
    shell = build_shell()
    parts = [Part("skin", shell.points, shell.triangles), *_all_parts(shell)]
    counts = np.array([len(part.points) for part in parts])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    points = np.concatenate([part.points for part in parts])
    triangles = np.concatenate(
        [
            np.where(part.triangles < 0, -1 - part.triangles, part.triangles + start)
            for part, start in zip(parts, starts)
        ]
    )
    groups = np.repeat([part.group for part in parts], counts)
    parent = np.concatenate([np.full(n, -1) if part.parent is None else part.parent for part, n in zip(parts, counts)])
    jaw = np.concatenate([np.zeros(n) if part.jaw is None else part.jaw for part, n in zip(parts, counts)])
    lip = np.concatenate([shell.lip, np.zeros(len(points) - len(shell.lip), int)])
    identity = identity_modes(points, groups)
    expression = expression_modes(Rig(points, groups, lip, jaw))
    if tuple(expression)[: len(EXPRESSIONS)] != EXPRESSIONS:
        raise AssertionError("EXPRESSIONS and expression_modes name different actions")
    follow = np.where(parent >= 0, parent, np.arange(len(points)))
    pncc = shell.triangles[_face(shell)]
    origin = _area_centre(shell.points, pncc)
    data = FaceModelData(
        name="procedural",
        mean=_float(points - origin),
        triangles=torch.from_numpy(triangles),
        identity_basis=_float(np.stack(list(identity.values()), axis=-1)),
        expression_basis=_float(np.stack(list(expression.values()), axis=-1)[follow]),
        pncc_triangles=torch.from_numpy(pncc),
        landmarks=landmarks,
        fit_prior=NAMED_ACTIONS,
    )
    paint = np.concatenate([part.points if part.paint is None else part.paint for part in parts])
    numbers = torch.tensor([GROUPS.index(group) for group in groups], dtype=torch.uint8)
    return ProceduralModel(data, numbers, _float(paint), torch.from_numpy(lip).float(), _float(hair_points(STYLES[0])))


def _all_parts(shell: Shell) -> list[Part]:
    lip_depth = float(shell.points[shell.lip_edges[0]][:, 2].max())
    angle, share, triangles = hair_grid()
    hair = Part("hair", hair_points(STYLES[0]), triangles, np.stack([np.cos(angle), np.sin(angle), share], axis=-1))
    return [
        *lid_rims(shell),
        *inner_lips(shell),
        mouth_cavity(lip_depth),
        *teeth(lip_depth),
        tongue(lip_depth),
        *eyeballs(),
        *ears(),
        neck(),
        shoulders(),
        hair,
    ]


def _face(shell: Shell) -> np.ndarray:
    """[M] True for triangles of the face: in front of the ears, below the hair line, above the neck."""
    middle = shell.points[shell.triangles].mean(axis=1)
    front = np.abs(shell.angle[shell.triangles]).max(axis=1) < np.deg2rad(97)
    return front & (middle[:, 1] < 0.80)


def _area_centre(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    corners = points[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return (corners.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()


def _load_landmarks(path: Path) -> dict[int, LandmarkEmbedding]:
    """The 478 and the 68 landmarks measured by `scripts.calibrate_landmarks`."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        vertices = torch.from_numpy(arrays["vertices"].astype(np.int64))
        weights = torch.from_numpy(arrays["weights"].astype(np.float32))
    weights = weights / weights.sum(dim=1, keepdim=True)
    valid = torch.ones(len(weights), dtype=torch.bool)
    chosen = torch.tensor(LANDMARKS_68)
    return {
        478: LandmarkEmbedding(vertices, weights, valid),
        68: LandmarkEmbedding(vertices[chosen], weights[chosen], valid[chosen]),
    }
