"""Any morphable model as the files of the Basel Face Model: the real keys, layouts and index conventions."""

from pathlib import Path

import numpy as np
import scipy.io
import torch
from torch import Tensor

from modules.face3d.bfm import BFM_FILE, EYE_FILES, MEDIAPIPE_FILE, NCC_FILE
from modules.procedural.head import ProceduralModel
from tests.modules.face3d.conftest import face_data


def write_bfm(
    folder: Path, model: dict[str, Tensor], eye_faces: tuple[list[int], list[int]], mediapipe: np.ndarray
) -> Path:
    """Write BFM_model_front.mat and the tables beside it.

    Args:
        model: mean [V, 3], identity_basis [V, 3, 80], expression_basis [V, 3, 64], triangles [F, 3] and keypoints
            [68], indices 0-based.
        eye_faces: rows of `triangles` over the left and the right eye, 0-based.
        mediapipe: [468] 0-based vertices, -999 = none.
    Returns:
        The path of the .mat file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, triangles = len(model["mean"]), model["triangles"].numpy()
    rows = np.arange(count * 8).reshape(count, 8) % (len(triangles) + 1) + 1.0  # not read; shape as in the real file
    scipy.io.savemat(
        folder / BFM_FILE,
        {
            "meanshape": model["mean"].numpy().reshape(1, -1),
            "idBase": model["identity_basis"].numpy().reshape(-1, 80),
            "exBase": model["expression_basis"].numpy().reshape(-1, 64),
            "meantex": np.full((1, 3 * count), 128.0),
            "texBase": np.zeros((3 * count, 80), np.float32),
            "tri": triangles + 1.0,
            "point_buf": rows,
            "keypoints": model["keypoints"].numpy()[None] + 1,
            "frontmask2_idx": np.ones((count, 1)),
            "tri_mask2": triangles[:1] + 1.0,
            "skinmask": np.ones((1, count)),
        },
    )
    np.save(folder / MEDIAPIPE_FILE, mediapipe.astype(np.int64))
    for name, faces in zip(EYE_FILES, eye_faces, strict=True):
        np.save(folder / name, np.array(faces) + 1)
    return folder / BFM_FILE


def write_small_bfm(folder: Path) -> Path:
    """The tiny bowl of `face_data` as a BFM; the MediaPipe landmark 93 has no vertex."""
    data, mediapipe = face_data(), np.arange(468)
    mediapipe[93] = -999
    arrays = {
        "mean": data.mean + 1,
        "identity_basis": data.identity_basis,
        "expression_basis": data.expression_basis,
        "triangles": data.triangles,
        "keypoints": torch.arange(68),
    }
    return write_bfm(folder, arrays, ([0, 1], [1, 9]), mediapipe)


def write_procedural_bfm(folder: Path, model: ProceduralModel) -> Path:
    """The face of the procedural model as a BFM: real photos can be fitted with it. Its eyes are in the eye lists."""
    eyes = model.triangles[model.triangle_group("eyeballs")]
    triangles = torch.cat([model.pncc_triangles, eyes])
    used, compact = triangles.unique(return_inverse=True)
    mean = model.mean[used]
    skin = compact[: len(model.pncc_triangles)].unique()

    def nearest(count: int) -> Tensor:
        points = model.landmarks(torch.zeros(1, 80), torch.zeros(1, 64), count)[0]
        return skin[torch.cdist(points, mean[skin]).argmin(dim=1)]

    numbers = torch.arange(len(model.pncc_triangles), len(triangles))
    left = mean[compact[numbers, 0], 0] > 0
    path = write_bfm(
        folder,
        {
            "mean": mean,
            "identity_basis": model.identity_basis[used],
            "keypoints": nearest(68),
            "expression_basis": model.expression_basis[used],
            "triangles": compact,
        },
        (numbers[left].tolist(), numbers[~left].tolist()),
        nearest(468).numpy(),
    )
    low, high = mean.amin(dim=0), mean.amax(dim=0)
    np.save(folder / NCC_FILE, ((mean - low) / (high - low)).T.numpy())
    return path
