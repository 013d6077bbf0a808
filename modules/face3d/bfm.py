"""The Basel Face Model 2009, face region, as prepared for single-image reconstruction (docs/spec/face3d.md#1-1).

Users bring `BFM_model_front.mat` and the small tables that lie beside it; nothing of it is distributed here.
"""

from pathlib import Path

import numpy as np
import scipy.io
import torch
from scipy.io.matlab import MatReadError
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE
from modules.face3d.fit_config import FitConfig, FitPrior
from modules.face3d.morphable_model import (
    FaceModelData,
    LandmarkEmbedding,
    MorphableModel,
    normalised_coordinates,
)
from modules.system.assets import find_asset
from modules.system.errors import UserError

BFM_FILE = "BFM_model_front.mat"
MEDIAPIPE_FILE = "index_mp468_from_mesh35709.npy"  # vertex of each MediaPipe landmark, 0-based, -999 = none
MEDIAPIPE_VERSIONS = (MEDIAPIPE_FILE, "index_mp468_from_mesh35709_v3.1.npy")  # the first that is there counts
NCC_FILE = "ncc_code.npy"  # [3, V]; optional
EYE_FILES = ("bfm_left_eye_faces.npy", "bfm_right_eye_faces.npy")  # 1-based triangles over the eyes
# fmt: off
FIT_PRIOR = FitPrior(         # the released system's
    photo=FitConfig(),
    clip=FitConfig(eyes=3.0, upper_lids=20.0, lips=5.0, identity_prior=0.2, expression_prior=0.6,
                   expression_smoothness=1.0, pose_smoothness=0.3))
# fmt: on
_KEYS = ("meanshape", "idBase", "exBase", "tri", "keypoints")


def load_bfm(path: Path | None = None, landmark68_offset: int = 0) -> MorphableModel:
    """Read the model from a .mat file and the .npy tables in its folder.

    Args:
        path: `BFM_model_front.mat`; None: that of the assets folder.
        landmark68_offset: added to the vertex numbers of the 68 landmarks; modules/official/bfm.py says why.
    Returns:
        MorphableModel called "bfm" with 68 and 468 landmarks.
    Raises:
        UserError: a file is missing or is not what it should be.
    """
    path = find_asset(BFM_FILE) if path is None else path
    arrays = _read_mat(path)
    folder = path.parent
    eyes = np.concatenate([_table(folder / name).ravel() for name in EYE_FILES])
    ncc_file = folder / NCC_FILE
    ncc = torch.from_numpy(_table(ncc_file).T.astype(np.float32).copy()) if ncc_file.is_file() else None
    here = [folder / name for name in MEDIAPIPE_VERSIONS if (folder / name).is_file()]
    mediapipe = here[0] if here else folder / MEDIAPIPE_FILE
    tables = [_table(mediapipe).ravel().astype(np.int64), eyes.astype(np.int64)]
    vertices, triangles = arrays["idBase"].shape[0] // 3, len(arrays["tri"])
    if len(tables[0]) != 468 or tables[0].max() >= vertices or not 1 <= tables[1].min() <= tables[1].max() <= triangles:
        raise UserError(
            f"the tables in {folder} are not of {path.name}, which has {vertices} vertices and {triangles} "
            f"triangles; take {mediapipe.name} and {' and '.join(EYE_FILES)} from one place with it"
        )
    return bfm_from_arrays(arrays, *map(torch.from_numpy, tables), ncc, landmark68_offset)


def bfm_from_arrays(
    arrays: dict[str, np.ndarray],
    mediapipe: Tensor,
    eye_faces: Tensor,
    ncc: Tensor | None = None,
    landmark68_offset: int = 0,
) -> MorphableModel:
    """The model from the arrays of the file.

    Args:
        arrays: meanshape [1, 3V] dm, idBase [3V, 80] and exBase [3V, 64] dm per unit of the coefficient, tri [F, 3]
            and keypoints (68), indices 1-based.
        mediapipe: [468] 0-based vertices, negative = none.
        eye_faces: [E] 1-based rows of `tri` that the PNCC leaves out.
        ncc: [V, 3] colours in [0, 1]; None computes them from the mean.
        landmark68_offset: added to the vertex numbers of the 68 landmarks.
    Raises:
        UserError: a basis of a wrong shape.
    """
    mean = torch.from_numpy(np.asarray(arrays["meanshape"], dtype=np.float32).reshape(-1, 3))
    mean, count = mean - mean.double().mean(dim=0).float(), len(mean)
    triangles = torch.from_numpy(np.asarray(arrays["tri"]).astype(np.int64)) - 1
    in_pncc = torch.ones(len(triangles), dtype=torch.bool)
    in_pncc[eye_faces - 1] = False
    keypoints = torch.from_numpy(np.asarray(arrays["keypoints"]).ravel().astype(np.int64))
    landmarks = {
        68: LandmarkEmbedding.of_vertices(keypoints - 1 + landmark68_offset),
        468: LandmarkEmbedding.of_vertices(mediapipe),
    }
    return MorphableModel(
        FaceModelData(
            name="bfm",
            mean=mean,
            identity_basis=_basis(arrays["idBase"], count, IDENTITY_SIZE),
            expression_basis=_basis(arrays["exBase"], count, EXPRESSION_SIZE),
            triangles=triangles,
            pncc_triangles=triangles[in_pncc],
            landmarks=landmarks,
            fit_prior=FIT_PRIOR,
            ncc=normalised_coordinates(mean, triangles) if ncc is None else ncc,
        )
    )


def _basis(array: np.ndarray, count: int, modes: int) -> Tensor:
    """[3V, modes] -> [V, 3, modes] float32."""
    if array.shape[0] != 3 * count or array.shape[1] < modes:
        raise UserError(f"a basis of the BFM file has shape {array.shape}; expected [{3 * count}, {modes}]")
    return torch.from_numpy(np.asarray(array[:, :modes], dtype=np.float32).reshape(count, 3, modes))


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = scipy.io.loadmat(path, variable_names=_KEYS)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path} cannot be read as a MATLAB 5 file ({error})") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; use the BFM_model_front.mat of the face region")
    return {key: arrays[key] for key in _KEYS}


def _table(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(
            f"{path.name} is missing beside the face model in {path.parent}; copy it there from the "
            "authors' repository or download (https://github.com/yerfor/Real3DPortrait)"
        )
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no plain NumPy array ({error})") from error
