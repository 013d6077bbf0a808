"""Clips to coefficients: squares round faces, and poses that the pictures correct."""

import numpy as np

from inference.clip_fit import face_squares, fit_video
from modules.analysis.crop import crop_landmarks


def test_a_face_is_not_distorted_where_pictures_change_their_size():
    """The same face in a square, a wide and an upright picture, in pixels twice as large in the last."""
    face = np.random.default_rng(0).uniform(-20, 20, (478, 2))
    shapes = [(200, 200)] * 3 + [(180, 320)] * 2 + [(800, 500)] * 2
    pixels = np.stack([np.array(shape[::-1]) / 2 + face * (1 + (shape[0] == 800)) for shape in shapes])
    landmarks = pixels / np.array(shapes)[:, None, ::-1]
    boxes = face_squares(landmarks, shapes)
    inside = np.stack([crop_landmarks(*row) for row in zip(landmarks, shapes, boxes)])
    assert inside.shape == pixels.shape and np.abs(inside - inside[:1]).max() < 0.02  # a square has whole pixels


def test_every_frame_has_coefficients(clip, assets, pipeline):
    face = fit_video(pipeline.face_model, clip)
    assert len(face) == 12 and face.identity.shape == (1, 80)
    assert face.euler.isfinite().all() and face.translation.isfinite().all()
