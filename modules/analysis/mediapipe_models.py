"""MediaPipe's models as plain functions of arrays: opened quietly, with errors that say what to do.

Opening a segmenter takes longer than using it, so that each is opened once in a process and stays open.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from modules.system.assets import ANALYSIS, find_asset, require_assets
from modules.system.errors import UserError

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # MediaPipe draws with it; a HOME it cannot write is no news
# Not later: modules go in the order in which they came, and models that outlive MediaPipe complain at the end.
from mediapipe import Image, ImageFormat  # noqa: E402
from mediapipe.tasks.python import BaseOptions, vision  # noqa: E402

LANDMARKS = 478
_SILENCE = threading.Lock()


@contextmanager
def silence() -> Iterator[None]:
    """Hide what native code writes to stderr (MediaPipe greets there; its errors are exceptions)."""
    with _SILENCE:
        sys.stderr.flush()
        saved = os.dup(2)
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(nothing)
            os.close(saved)


class FaceFinder:
    """The 478-point face landmarker; use it in a `with` block.

    Args:
        max_faces: how many faces are looked for.
        track: False for unrelated pictures, True for the frames of a clip in order.
    Raises:
        UserError: the model file is missing or damaged; of several that will be missed all are named.
    """

    def __init__(self, max_faces: int = 1, track: bool = False) -> None:
        require_assets((name,) for name in ANALYSIS)  # whoever looks for a face will segment it
        path = find_asset("face_landmarker.task")
        mode = vision.RunningMode.VIDEO if track else vision.RunningMode.IMAGE
        self._track = track
        with silence():
            self._model = _open(
                path,
                lambda base: vision.FaceLandmarker.create_from_options(
                    vision.FaceLandmarkerOptions(base_options=base, running_mode=mode, num_faces=max_faces)
                ),
            )

    def find(self, picture: np.ndarray, time_ms: int | None = None) -> np.ndarray:
        """Landmarks of all faces in a uint8 picture [H, W, 3]: [N, 478, 2] float64, fractions of the picture.

        `time_ms` must grow from frame to frame when tracking, and is left out otherwise.
        """
        if self._track:
            result = self._model.detect_for_video(_image(picture), time_ms)
        else:
            result = self._model.detect(_image(picture))
        faces = [[(point.x, point.y) for point in face] for face in result.face_landmarks]
        return np.array(faces, np.float64).reshape(len(faces), LANDMARKS, 2)

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def __enter__(self) -> "FaceFinder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def confidences(picture: np.ndarray, model: str) -> np.ndarray:
    """Probabilities of a segmentation model's classes for every pixel.

    Args:
        picture: [H, W, 3] uint8.
        model: asset name of a segmenter (.tflite).
    Returns:
        [C, H, W] float32 in [0, 1]; one channel per class of that model.
    Raises:
        UserError: the model file is missing or damaged.
    """
    return np.stack(_masks(picture, model, slice(None)))


def _masks(picture: np.ndarray, model: str, channels: slice) -> list[np.ndarray]:
    """Some channels of `confidences`, each copied: that takes as long as the smaller of the networks."""
    path = find_asset(model)
    with silence():  # also: one picture at a time
        segmenter = _segmenter(path, path.stat().st_mtime_ns, os.getpid())
        masks = segmenter.segment(_image(picture)).confidence_masks
        return [np.array(mask.numpy_view()).reshape(picture.shape[:2]) for mask in masks[channels]]


@lru_cache(maxsize=8)
def _segmenter(path: Path, changed: int, process: int) -> vision.ImageSegmenter:
    """The segmenter of a file as it was at the time `changed`; of `process`, as threads do not survive a fork."""
    options = {"output_category_mask": False, "output_confidence_masks": True}
    segmenter = _open(
        path,
        lambda base: vision.ImageSegmenter.create_from_options(
            vision.ImageSegmenterOptions(base_options=base, **options)
        ),
    )
    return segmenter


def person_confidence(picture: np.ndarray) -> np.ndarray:
    """Probability [H, W] in [0, 1] that a pixel of [H, W, 3] uint8 belongs to a person."""
    return _masks(picture, "selfie_segmenter.tflite", slice(1))[0]


def hair_confidence(picture: np.ndarray) -> np.ndarray:
    """Probability [H, W] in [0, 1] that a pixel of [H, W, 3] uint8 is hair."""
    return _masks(picture, "hair_segmenter.tflite", slice(1, 2))[0]


def _open(path: Path, create: Callable[[BaseOptions], Any]) -> Any:
    try:
        return create(BaseOptions(model_asset_buffer=path.read_bytes()))  # any letters in the path
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is damaged or another model; fetch it again with: python -m scripts.assets fetch {path.name}"
        ) from error


def _image(picture: np.ndarray) -> Image:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture must be uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    return Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(picture))
