"""Two face-recognition networks whose vectors give CSIM, each with the crop that it was trained on.

Both take their crop from MediaPipe's landmarks, so that every method's frames are found by one detector.
"""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from torch import Tensor

from modules.face3d.landmark_sets import LANDMARKS_68, MOUTH_CORNERS
from modules.system.errors import UserError

CROP = 112  # pixels of ArcFace
# Where ArcFace wants pupils, nose and mouth corners, left to right in the picture: its published template.
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_PUPILS, _NOSE = (468, 473), 1  # of MediaPipe's 478
_DLIB_CHIP, _DLIB_SIZE = 150, 128


class ArcFace:
    """ArcFace (Deng and others, 2019) from an ONNX file: RGB, 112 x 112, (x - 127.5) / 127.5; on the CPU.

    Args:
        path: for example w600k_r50.onnx (ResNet-50, WebFace600K), or glintr100.onnx (ResNet-100, Glint360K).
    Raises:
        UserError: it is no such network.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
            self.size = self._embed(np.zeros((CROP, CROP, 3), np.uint8)).size
        except cv2.error as error:
            raise UserError(f"{path} is no ArcFace network ({str(error).splitlines()[0]}); get it again") from error

    def __call__(self, frames: Tensor, landmarks: Tensor) -> Tensor:
        """Vectors of the faces.

        Args:
            frames: [B, H, W, 3] uint8 RGB.
            landmarks: [B, 478, 2] pixels.
        Returns:
            [B, D] float32, not normalised; NaN where the landmarks are.
        """
        vectors = np.full((len(frames), self.size), np.nan, np.float32)
        for row, frame, points in zip(vectors, frames.numpy(), landmarks.numpy()):
            if np.isfinite(points).all():
                row[:] = self._embed(align(frame, points))
        return torch.from_numpy(vectors)

    def _embed(self, face: np.ndarray) -> np.ndarray:
        self._network.setInput(cv2.dnn.blobFromImage(face, 1 / 127.5, (CROP, CROP), (127.5,) * 3))
        return self._network.forward().reshape(-1)


def align(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turn, scale and shift a face so that five points lie on ArcFace's template.

    Args:
        frame: [H, W, 3] uint8.
        points: [478, 2] pixels.
    Returns:
        [112, 112, 3] uint8; black outside of the frame.
    """
    five = points[[*_PUPILS, _NOSE, *MOUTH_CORNERS]].astype(np.float64)
    target = np.array(_TEMPLATE)
    # Least squares for the similarity x -> (a, -b; b, a) x + t.
    x, y = five.T
    one, zero = np.ones(5), np.zeros(5)
    design = np.concatenate([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
    a, b, right, down = np.linalg.lstsq(design, target.T.reshape(-1), rcond=None)[0]
    return cv2.warpAffine(frame, np.array([[a, -b, right], [b, a, down]]), (CROP, CROP), flags=cv2.INTER_LINEAR)


class DlibFace:
    """dlib's face recognition (King, 2017; ResNet-29 on 3 million faces, CC0): 150 x 150 crops aligned by 51 points.

    Its vectors are not centred: the cosine of frames of one person is 0.92 to 1.00, of different people 0.73 to 0.92
    (mean 0.84; 46 pictures of 21 people), so small differences count. About 0.2 s a face on one core.

    Args:
        dlib: the package of that name.
        weights: dlib_face_recognition_resnet_model_v1.dat.
    """

    size = _DLIB_SIZE

    def __init__(self, dlib: ModuleType, weights: Path) -> None:
        self._dlib = dlib
        self._network = dlib.face_recognition_model_v1(str(weights))

    def __call__(self, frames: Tensor, landmarks: Tensor) -> Tensor:
        """As `ArcFace.__call__`, with D = 128."""
        vectors = np.full((len(frames), self.size), np.nan, np.float32)
        for row, frame, points in zip(vectors, frames.numpy(), landmarks.numpy()):
            if np.isfinite(points).all():
                chip = self._dlib.get_face_chip(np.ascontiguousarray(frame), self._shape(points), size=_DLIB_CHIP)
                row[:] = self._network.compute_face_descriptor(chip)
        return torch.from_numpy(vectors)

    def _shape(self, points: np.ndarray) -> object:
        """dlib's record of 68 points from MediaPipe's [478, 2]."""
        pixels = np.round(points[list(LANDMARKS_68)]).astype(int)
        (left, top), (right, bottom) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        box = self._dlib.rectangle(left, top, right, bottom)
        return self._dlib.full_object_detection(box, [self._dlib.point(*pixel) for pixel in pixels.tolist()])
