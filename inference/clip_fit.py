"""A driving clip -> expression and pose of the person in it: landmarks, fit, and poses corrected by the pictures."""

from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import torch

from modules.analysis.crop import Box, clip_crop, crop_landmarks, crop_picture
from modules.analysis.landmarks import detect_clip
from modules.analysis.segmentation import segment
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_clip
from modules.face3d.morphable_model import MorphableModel
from modules.media.picture_kinds import check_clip
from modules.media.video_reader import open_video
from modules.rig.pose_tracking import track_poses

_TRACKED = 512  # pixels a side of the squares that poses are corrected by


def fit_video(model: MorphableModel, clip: Path, which: int | None = None) -> FaceCoefficients:
    """Fit a face model to every frame of a clip at 25 frames a second; the clip is read twice.

    Args:
        which: the person to follow in a clip of several, from the left in the first frame, counted from 0.
    Raises:
        UserError: no video, damaged, or nobody can be followed in it.
    """
    check_clip(clip)
    shapes: list[tuple[int, int]] = []
    landmarks = detect_clip(_noting_shapes(open_video(clip)[1], shapes), clip.name, face_index=which, anyway=True)
    boxes = face_squares(landmarks, shapes)
    places = [crop_landmarks(*row) for row in zip(landmarks, shapes, boxes)]
    face = fit_clip(model, torch.from_numpy(np.stack(places)).float())
    squares = (crop_picture(frame, box, _TRACKED) for box, frame in zip(boxes, open_video(clip)[1]))
    first = next(squares)
    return track_poses(model, face, chain([first], squares), segment(first, places[0]))


def face_squares(landmarks: np.ndarray, shapes: list[tuple[int, int]]) -> list[Box]:
    """The squares round the face in frames of `shapes` (H, W) with landmarks [T, 478, 2], fractions: T boxes.

    Frames of one shape in a row have one square. So a face keeps its size and is not distorted when that of the
    pictures changes, as in the recording of a call.
    """
    boxes: list[Box] = []
    for shape, run in groupby(shapes):
        count = len(list(run))
        boxes += [clip_crop(shape, landmarks[len(boxes) : len(boxes) + count])] * count
    return boxes


def _noting_shapes(frames: Iterator[np.ndarray], shapes: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    for frame in frames:
        shapes.append(frame.shape[:2])
        yield frame
