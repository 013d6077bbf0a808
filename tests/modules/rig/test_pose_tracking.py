"""Poses are found again by the pictures where landmarks mislead the fit."""

import math

import cv2
import numpy as np
import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.landmark_sets import FACE_OVAL
from modules.media.pixels import to_pixels
from modules.rig.landmark_mesh import LOWER_LIP, UPPER_LIP
from modules.rig.pose_tracking import track_poses

from .conftest import JAW, Puppet

FRAMES = 6
BROWS_UP = 6  # a mode of the procedural model
BROW_POINTS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)


@pytest.fixture(scope="module")
def talk(puppet: Puppet) -> tuple[FaceCoefficients, list[np.ndarray]]:
    """A head that nods, turns and talks, with its frames."""
    face, wave = puppet.photo.face, torch.linspace(0, 1, FRAMES)[:, None]
    expression = face.expression.repeat(FRAMES, 1)
    expression[:, JAW] += 0.8 * wave[:, 0]
    euler = face.euler + wave * torch.tensor([[0.08, -0.1, 0.03]])
    translation = face.translation + wave * torch.tensor([[0.05, 0.02, 0.0]])
    frames = puppet.draw(expression=expression, euler=euler, translation=translation)
    pictures = to_pixels(frames.over(puppet.rig.plate))
    return face.replace(expression=expression, euler=euler, translation=translation), list(pictures)


def misled(face: FaceCoefficients) -> FaceCoefficients:
    """As landmarks see it: the head nods by two degrees where the mouth is open."""
    nod = torch.linspace(0, math.radians(2), FRAMES)[:, None] * torch.tensor([[1.0, 0.2, 0.0]])
    return face.replace(euler=face.euler + nod)


def degrees(one: FaceCoefficients, other: FaceCoefficients) -> float:
    """Largest difference of angles."""
    return math.degrees(float((one.euler - other.euler).abs().max()))


def test_a_nod_of_the_landmarks_is_taken_back(puppet: Puppet, talk) -> None:
    """Of two degrees less than a quarter is left."""
    face, frames = talk
    assert degrees(misled(face), face) > 1.9
    assert degrees(track_poses(puppet.model, misled(face), frames), face) < 0.5


def test_right_poses_stay(puppet: Puppet, talk) -> None:
    face, frames = talk
    tracked = track_poses(puppet.model, face, frames)
    assert degrees(tracked, face) < 0.4
    assert torch.equal(tracked.euler[0], face.euler[0]) and torch.equal(tracked.translation[0], face.translation[0])
    assert torch.equal(tracked.expression[0], face.expression[0])


def test_brows_that_the_landmarks_miss_are_found_and_lips_stay(puppet: Puppet, talk) -> None:
    """The photo's wrinkles do not move in these frames, but its brows do."""
    face, frames = talk
    missed = face.replace(expression=face.expression.clone())
    raised = face.expression.clone()
    raised[:, BROWS_UP] += torch.linspace(0, 0.8, FRAMES)
    moved = puppet.draw(expression=raised, euler=face.euler, translation=face.translation)
    tracked = track_poses(puppet.model, missed, to_pixels(moved.over(puppet.rig.plate)))
    brow, lips = list(BROW_POINTS), [*UPPER_LIP, *LOWER_LIP]
    landmarks = puppet.rig.skeleton.model
    before, after, truth = (landmarks.moved(x)[-1] for x in (missed.expression, tracked.expression, raised))
    assert (after - truth)[brow, 1].abs().mean() < 0.65 * (before - truth)[brow, 1].abs().mean()
    assert (after - truth)[lips].norm(dim=1).max() < 0.02


def test_hair_tells_the_pose_of_a_face_without_features(puppet: Puppet, talk) -> None:
    face, frames = talk
    veiled = []
    for row, frame in enumerate(frames):
        points = puppet.model.landmarks(face.identity, face.expression[row : row + 1], 478)
        places = project(pose_points(points, face.euler[row : row + 1], face.translation[row : row + 1]))[0].numpy()
        oval = (places[list(FACE_OVAL)] * len(frame)).astype(np.int32)
        veiled.append(cv2.fillConvexPoly(frame.copy(), cv2.convexHull(oval), (128, 128, 128)))
    alone, with_hair = (
        track_poses(puppet.model, misled(face), veiled, classes) for classes in (None, puppet.photo.classes)
    )
    assert degrees(with_hair, face) < 0.7 * degrees(alone, face)


def test_brightness_and_contrast_do_not_matter(puppet: Puppet, talk) -> None:
    face, frames = talk
    darker = [frames[0], *(np.clip(0.7 * frame + 20, 0, 255).astype(np.uint8) for frame in frames[1:])]
    one, other = (track_poses(puppet.model, misled(face), shown) for shown in (frames, darker))
    assert degrees(one, other) < 0.3


def test_sizes_of_the_pictures_do_not_matter(puppet: Puppet, talk) -> None:
    face, frames = talk
    larger = [cv2.resize(frame, None, fx=1.5, fy=1.5) for frame in frames]
    one, other = (track_poses(puppet.model, misled(face), shown) for shown in (frames, larger))
    assert degrees(one, other) < 0.3


def test_a_face_that_turned_away_keeps_its_pose(puppet: Puppet, talk) -> None:
    face, frames = talk
    euler = face.euler.clone()
    euler[-1, 1] += math.radians(110)
    away = face.replace(euler=euler)
    assert torch.equal(track_poses(puppet.model, away, frames).euler[-1], euler[-1])


@pytest.mark.parametrize("count", (FRAMES - 1, FRAMES + 1))
def test_every_row_needs_its_frame(puppet: Puppet, talk, count: int) -> None:
    face, frames = talk
    with pytest.raises(ValueError):
        track_poses(puppet.model, face, (frames * 2)[:count])
