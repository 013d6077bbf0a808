"""Track: a portrait and a motion -> cameras, key points and expressions of all frames; the first two are smoothed."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inference.motion import Motion
from inference.portrait import Portrait
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import Camera
from modules.geometry.trajectory import prepare_poses, smooth_cameras, smooth_features
from modules.portrait.driving import DrivingConfig, head_camera, project_landmarks, torso_keypoints
from modules.system.errors import UserError

SMOOTHING = 7  # frames, of cameras and torso key points (docs/spec/face3d.md#8)
PoseMode = Literal["relative", "absolute"]


@dataclass(frozen=True)
class Track:
    """What changes from frame to frame and is cheap to hold for a whole video (a few hundred bytes a frame).

    Attributes:
        cameras: of T frames, smoothed over `SMOOTHING` of them.
        keypoints: [T, 68, 3], driving landmarks in [-1, 1], y down, z = 0, smoothed likewise.
        source_keypoints: [1, 68, 3], landmarks of the photo.
        expression: [T, 64], blinks applied where the face model has modes for them.
        closing: [T] in [0, 1], blinks that are drawn into the PNCC instead.
        source_expression: [1, 64], the expression of the source PNCC.
    """

    cameras: Camera
    keypoints: Tensor
    source_keypoints: Tensor
    expression: Tensor
    closing: Tensor
    source_expression: Tensor


def make_track(
    portrait: Portrait, motion: Motion, model: MorphableModel, config: DrivingConfig, pose_mode: PoseMode = "relative"
) -> Track:
    """The motion applied to the portrait.

    Args:
        model: the face model, on the CPU.
        config: how the checkpoint's cameras and PNCCs are made.
        pose_mode: relative: the head starts in the photo's pose, moves as the driver does, and keeps its distance;
            absolute: it has the driver's pose, distance included.
    Raises:
        UserError: an absolute pose is asked of a motion that has none of its own.
    """
    if pose_mode == "absolute" and motion.relative:
        raise UserError("the pose of this motion counts from the photo's own; it cannot be used as absolute")
    width = 1 if motion.smoothed else SMOOTHING
    euler, translation = motion.euler, motion.translation
    if motion.relative:
        euler, translation = portrait.euler + euler, portrait.translation + translation
    elif pose_mode == "relative":
        euler, translation = prepare_poses(portrait.euler, portrait.translation, euler, translation, len(motion))
    expression, closing = apply_blinks(motion, model)
    driving = FaceCoefficients(portrait.identity, expression, euler, translation)
    keypoints = torso_keypoints(project_landmarks(model, driving), inside=True)
    source = torso_keypoints(project_landmarks(model, portrait.face), inside=True)
    return Track(
        cameras=smooth_cameras(head_camera(euler, translation, config), width),
        keypoints=smooth_features(keypoints, width),
        source_keypoints=source,
        expression=expression,
        closing=closing,
        source_expression=expression[:1] if config.source_pncc == "first_driving" else portrait.expression,
    )


def apply_blinks(motion: Motion, model: MorphableModel) -> tuple[Tensor, Tensor]:
    """Blinks as expression [T, 64] where the face model has modes for them, else as closing amounts [T]."""
    modes = model.blink_modes
    if not modes:
        return motion.expression, motion.blink[:, 0]
    expression = motion.expression.clone()
    expression[:, modes] = torch.maximum(expression[:, modes], motion.blink)
    return expression, torch.zeros(len(motion))
