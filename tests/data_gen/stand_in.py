"""A procedural talking head, and a stand-in for MediaPipe that knows its landmarks."""

import cv2
import numpy as np
import pytest
import torch

from modules.analysis.looks import Looks
from modules.face3d.coefficients import pose_points, project
from modules.face3d.landmark_sets import FACE_OVAL
from modules.face_models import load_face_model
from modules.media.pixels import to_pixels
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.person import sample_person

FRAMES, SIZE = 12, 160
NEAR = 12.0  # grey levels between thumbnails of one frame before and after encoding, at most


class StandIn:
    """Frames uint8 [T, H, W, 3] and their landmarks [T, 478, 2]; a picture that is none of them has no face."""

    def __init__(self, frames: np.ndarray, landmarks: np.ndarray) -> None:
        self.landmarks = landmarks
        self._thumbnails = np.stack([_thumbnail(frame) for frame in frames])

    def find(self, picture: np.ndarray, time_ms: int | None = None) -> np.ndarray:
        """As `FaceFinder.find`; a darkened frame counts as the same."""
        known, seen = self._thumbnails, _thumbnail(picture)
        brightness = seen.mean() / known.mean(axis=(1, 2, 3), keepdims=True)
        distances = np.abs(known * brightness - seen).mean(axis=(1, 2, 3))
        return self.landmarks[[distances.argmin()]] if distances.min() < NEAR else np.zeros((0, 478, 2))

    def __call__(self, max_faces: int = 1, track: bool = False) -> "StandIn":
        return self

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)


def talking_head() -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [FRAMES, SIZE, SIZE, 3] and landmarks [FRAMES, 478, 2]."""
    model = load_face_model("procedural")
    with torch.no_grad():
        clip = render_clip(model, sample_person(3), sample_motion(3, FRAMES), SIZE)
        face = clip.coefficients
        points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
    return to_pixels(clip.frames), project(points).double().numpy()


def person_around(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A person mask [H, W] float: a large oval round the face, and everything below the chin near the middle."""
    height, width = picture.shape[:2]
    points = landmarks[list(FACE_OVAL)] * (width, height)
    middle, half = points.mean(0), np.ptp(points, axis=0) / 2
    rows, columns = np.indices((height, width))
    head = ((columns - middle[0]) / half[0]) ** 2 + ((rows - middle[1]) / half[1]) ** 2 < 1.3**2
    torso = (rows > points[:, 1].max()) & (np.abs(columns - middle[0]) < 2 * half[0])
    return (head | torso).astype(np.float32)


def install(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> None:
    """Put a stand-in for all outside models."""
    for module in ("data_gen.segments", "modules.analysis.landmarks"):
        monkeypatch.setattr(f"{module}.FaceFinder", stand_in)
    monkeypatch.setattr("data_gen.videos.ANALYSIS", ())
    monkeypatch.setattr("modules.analysis.clip_segmentation.ANALYSIS_SIZE", 96)  # for speed
    monkeypatch.setattr("modules.analysis.segmentation.locate", lambda name: None)
    looks = Looks(person=1.0, hair=0.0, hair_in_the_middle=0.0, lips=20.0, cover=0.0)
    monkeypatch.setattr("modules.analysis.landmarks.measure_looks", lambda picture, landmarks: looks)
    found = "modules.analysis.segmentation"
    monkeypatch.setattr(f"{found}.hair_confidence", lambda picture: np.zeros(picture.shape[:2], np.float32))
    middle = stand_in.landmarks[0]
    monkeypatch.setattr(f"{found}.person_confidence", lambda picture: person_around(picture, middle))
