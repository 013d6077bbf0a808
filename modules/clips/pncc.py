"""The PNCCs of a clip as bytes, as they are stored and read: of every frame, then of the neutral face.

They are drawn on the CPU by OpenCV's rasteriser, of the vertices that a PNCC shows alone. `render_pncc`
(modules/face3d/pncc.py) is the reference and draws on any device: the same pixels, but for a few at edges in 10^5 that
differ by 1 of 255.
"""

import math
from copy import deepcopy
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, camera_points
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import FITTING_FOCAL_LENGTH
from modules.layers.precision import full_precision

FRAMES_AT_ONCE = 8  # rendered together
_MARGIN = 0.1  # dm before and behind the face: the range of the z-buffer
_BOTH_SIDES, _INTERPOLATED = 0, 2  # RASTERIZE_CULLING_NONE and RASTERIZE_SHADING_SHADED, which Python does not name


class PNCCPainter:
    """Draws PNCCs of one face model on the CPU."""

    def __init__(self, model: MorphableModel) -> None:
        self._skin = deepcopy(model.skin).cpu()
        self._triangles = self._skin.triangles.numpy().astype(np.int32)
        self._colours = np.ascontiguousarray(self._skin.ncc.numpy(), np.float32)
        self._settings = cv2.TriangleRasterizeSettings()
        self._settings.setCullingMode(_BOTH_SIDES)
        self._settings.setShadingType(_INTERPOLATED)

    @full_precision()
    def pixels(self, identity: Tensor, expression: Tensor, size: int) -> Tensor:
        """PNCCs of N faces.

        Args:
            identity: [N, 80] or [1, 80].
            expression: [N, 64]; zeros give the canonical PNCC.
            size: pixels a side.
        Returns:
            uint8 [N, 3, size, size]; 0 where no skin is.
        """
        points = camera_points(self._skin.vertices(identity, expression)).numpy()
        pictures = torch.empty(len(points), 3, size, size, dtype=torch.uint8)
        for face, picture in zip(points, pictures.numpy()):
            picture[:] = self._draw(face, size).transpose(2, 0, 1)
        return pictures

    def _draw(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points [U, 3] (x right, y up, depth, dm) -> uint8 [size, size, 3]."""
        near, far = float(points[:, 2].min()) - _MARGIN, float(points[:, 2].max()) + _MARGIN
        colours = cv2.triangleRasterizeColor(
            np.ascontiguousarray(points * np.float32([1, 1, -1])),  # OpenCV looks along -z here
            self._triangles,
            self._colours,
            np.zeros((size, size, 3), np.float32),
            np.eye(4),
            2 * math.atan(0.5 / FITTING_FOCAL_LENGTH),
            near,
            far,
            self._settings,
        )
        return cv2.convertScaleAbs(colours, alpha=255)


@lru_cache(maxsize=4)
def pncc_painter(model: MorphableModel) -> PNCCPainter:
    """The painter of a face model, made once."""
    return PNCCPainter(model)


def pncc_pixels(model: MorphableModel, face: FaceCoefficients, rows: list[int], size: int) -> Tensor:
    """PNCCs of some frames of a clip.

    Args:
        face: T frames.
        rows: N frame numbers; -1 (or T) is the neutral face.
        size: pixels a side.
    Returns:
        uint8 [N, 3, size, size]; 0 where no skin is.
    """
    expression = torch.cat([face.expression, torch.zeros_like(face.expression[:1])])
    return pncc_painter(model).pixels(face.identity, expression[rows], size)


def all_pncc(model: MorphableModel, face: FaceCoefficients, size: int) -> np.ndarray:
    """PNCCs of a whole clip, uint8 [T + 1, 3, size, size]: of every frame, then of the neutral face."""
    rows = torch.arange(len(face) + 1).split(FRAMES_AT_ONCE)
    return torch.cat([pncc_pixels(model, face, part.tolist(), size) for part in rows]).numpy()
