"""The ICT Face Model Light (MIT licence): a morphable head whose expressions are named actions.

`scripts.convert_ict` makes the file of its mesh from the published folder.

Centimetres become decimetres, and the origin moves to the mean of the vertices of the file's `face` group,
which puts eyes, nose and mouth within 0.05 dm of where they are in the Basel model, so that the cameras of
both agree.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE
from modules.face3d.fit_config import NAMED_ACTIONS
from modules.face3d.morphable_model import FaceModelData, LandmarkEmbedding, MorphableModel
from modules.system.assets import find_asset
from modules.system.errors import UserError

ICT_FILE = "ict_facekit.npz"
LANDMARK_FILE = "ict_mp468.npz"  # the MediaPipe landmarks as points of this mesh
# fmt: off
_MODEL_KEYS = ("v", "tri", "id_basis", "exp_basis", "exp_names", "group_names", "group_vrange", "sub_names",
               "sub_vrange", "lm68")
# fmt: on
_LANDMARK_KEYS = ("vert_index", "bary", "iris_vert_index", "iris_bary")
_SENSIBLE = (-0.2, 1.1)  # of an expression coefficient; 0 is neutral, 1 the full shape
_DECIMETRES = 0.1  # per centimetre


def load_ict(path: Path | None = None, landmark_path: Path | None = None) -> MorphableModel:
    """Read the model from its two files.

    Args:
        path, landmark_path: `ict_facekit.npz` and `ict_mp468.npz`; None: those of the assets folder.
    Returns:
        MorphableModel called "ict" with 68 and 478 landmarks. Identity coefficients are standard deviations
        (the first 80 of 100); expressions are in the order of `expression_names`, the last 11 of the 64 do
        nothing.
    Raises:
        UserError: a file is missing or is not what it should be.
    """
    arrays = _read(path or find_asset(ICT_FILE), _MODEL_KEYS)
    landmarks = _read(landmark_path or find_asset(LANDMARK_FILE), _LANDMARK_KEYS)
    face = _vertex_range(arrays, "group", "face")
    narrow = _vertex_range(arrays, "sub", "narrow_face")
    mean = torch.from_numpy(arrays["v"].astype(np.float64))
    triangles = torch.from_numpy(arrays["tri"].astype(np.int64))
    in_face = ((triangles >= narrow.start) & (triangles < narrow.stop)).all(dim=1)
    return MorphableModel(
        FaceModelData(
            name="ict",
            mean=(mean - mean[face].mean(dim=0)) * _DECIMETRES,
            identity_basis=_basis(arrays["id_basis"], IDENTITY_SIZE),
            expression_basis=_basis(arrays["exp_basis"], EXPRESSION_SIZE),
            triangles=triangles,
            pncc_triangles=triangles[in_face],
            landmarks={68: LandmarkEmbedding.of_vertices(torch.from_numpy(arrays["lm68"])), 478: _embedding(landmarks)},
            fit_prior=NAMED_ACTIONS,
            expression_names=tuple(arrays["exp_names"].tolist()),
            expression_range=torch.tensor(_SENSIBLE).repeat(EXPRESSION_SIZE, 1),
        )
    )


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is no ICT face model file ({error}); make it with python -m scripts.convert_ict"
        ) from error


def _vertex_range(arrays: dict[str, np.ndarray], kind: str, name: str) -> slice:
    row = arrays[f"{kind}_names"].tolist().index(name)
    return slice(*arrays[f"{kind}_vrange"][row].tolist())


def _basis(modes: np.ndarray, size: int) -> Tensor:
    """[M, V, 3] cm -> [V, 3, size] dm; missing modes are zero."""
    basis = torch.zeros(*modes.shape[1:], size)
    count = min(size, len(modes))
    basis[..., :count] = _DECIMETRES * torch.from_numpy(modes[:count].astype(np.float32)).permute(1, 2, 0)
    return basis


def _embedding(arrays: dict[str, np.ndarray]) -> LandmarkEmbedding:
    vertices = np.concatenate([arrays["vert_index"], arrays["iris_vert_index"]]).astype(np.int64)
    weights = np.concatenate([arrays["bary"], arrays["iris_bary"]]).astype(np.float32)
    valid = torch.ones(len(vertices), dtype=torch.bool)
    return LandmarkEmbedding(torch.from_numpy(vertices), torch.from_numpy(weights), valid)
