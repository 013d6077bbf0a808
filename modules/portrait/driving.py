"""Driving: what one frame asks of the model (camera, PNCCs, key points), and how coefficients become it.

Inference, training and the benchmark use these functions, so that a model meets in use what it met in training. The
PNCCs of prepared clips (modules/clips/pncc.py) come from the same `render_pncc`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.face3d.blink import close_eyes
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.face_models import check_face_model
from modules.geometry.camera import FITTING_FOCAL_LENGTH, RELEASED_FOCAL_LENGTH, Camera, pose_camera

PNCC_NAMES = ("canonical", "source", "driving")


@dataclass(frozen=True, kw_only=True)
class DrivingConfig:
    """How cameras, PNCCs and key points are made; the weights of a model are used to it."""

    focal_length: float = RELEASED_FOCAL_LENGTH  # of the cameras, in image widths
    face_model: str = "bfm"  # whose PNCC is drawn: of modules/face_models.py
    torso_points: str = "exact"  # 68 landmarks; "official": one vertex of the BFM too far
    source_pncc: Literal["source", "first_driving"] = "source"  # expression of the source PNCC: the photo's, or
    #                                                 the first driving frame's, as the released system does it

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        if self.torso_points not in (("exact", "official") if self.face_model == "bfm" else ("exact",)):
            raise ValueError(f"torso_points must be exact, or official with face_model bfm, not {self.torso_points!r}")
        if self.source_pncc not in ("source", "first_driving"):
            raise ValueError(f"source_pncc must be source or first_driving, not {self.source_pncc!r}")
        if self.focal_length <= 0:
            raise ValueError(f"focal_length is {self.focal_length}; it must be positive")

    @classmethod
    def released(cls) -> "DrivingConfig":
        """The settings with which the released weights were trained."""
        return cls(torso_points="official", source_pncc="first_driving")

    @classmethod
    def demo(cls) -> "DrivingConfig":
        """The procedural world: cameras are those of the fit."""
        return cls(focal_length=FITTING_FOCAL_LENGTH, face_model="procedural")


@dataclass(frozen=True)
class PNCCInputs:
    """PNCCs without pose, [B, 3, N, N] in [-1, 1], -1 where no skin is; a batch of 1 serves all frames.

    Attributes:
        canonical: of the person without expression.
        source: with the expression of the photo, which is that of P_cano.
        driving: with the expression of the frames.
    """

    canonical: Tensor
    source: Tensor
    driving: Tensor

    def stack(self, names: tuple[str, ...]) -> Tensor:
        """The PNCCs called `names`, in that order: [B, K, 3, N, N] with the largest batch of the three."""
        batch = max(len(self.canonical), len(self.source), len(self.driving))
        return torch.stack([getattr(self, name).expand(batch, -1, -1, -1) for name in names], dim=1)

    def with_driving(self, driving: Tensor) -> "PNCCInputs":
        """The same person with other driving PNCCs."""
        return PNCCInputs(self.canonical, self.source, driving)


@dataclass(frozen=True)
class Driving:
    """B frames.

    Attributes:
        camera: of the frames; it holds the pose of the head.
        pncc: None renders P_cano alone (stage 1).
        keypoints: that move the torso, [B, 68, 3] in [-1, 1] (x right, y down, z 0), or the learned ones [B, K, 3];
            read by HTB-SR alone.
    """

    camera: Camera
    pncc: PNCCInputs | None = None
    keypoints: Tensor | None = None


def head_camera(euler: Tensor, translation: Tensor, config: DrivingConfig) -> Camera:
    """The cameras that see canonical heads as the fitted, posed ones: euler [B, 3] radians, translation [B, 3] dm."""
    return pose_camera(euler, translation, config.focal_length)


def draw_pncc(
    model: MorphableModel, identity: Tensor, expression: Tensor, size: int, closing: Tensor | None = None
) -> Tensor:
    """PNCCs of expressions, eyes closed in the PNCCs where the face model has no mode for it.

    Args:
        model: on the device of the coefficients.
        identity: [B or 1, 80].
        expression: [B, 64].
        size: N, pixels a side.
        closing: [B] in [0, 1], how far the eyes close.
    Returns:
        [B, 3, N, N] in [-1, 1].
    """
    pncc = render_pncc(model, identity, expression, size)
    amounts = [] if closing is None else closing.tolist()
    return torch.stack([close_eyes(p, amount) for p, amount in zip(pncc, amounts)]) if any(amounts) else pncc


def project_landmarks(model: MorphableModel, face: FaceCoefficients) -> Tensor:
    """The 68 landmarks of posed faces in the image: fractions [T, 68, 2], x right, y down."""
    points = model.landmarks(face.identity, face.expression, 68)
    return project(pose_points(points, face.euler, face.translation))


def torso_keypoints(landmarks: Tensor, inside: bool) -> Tensor:
    """Projected landmarks -> what moves the torso.

    Args:
        landmarks: [B, 68, 2], fractions of the image from `project_landmarks`.
        inside: clamp to the frame. Inference does, so that a head that leaves the frame keeps its torso; training
            does not, since its clips are cropped around the head (docs/spec/face3d.md#2-3).
    Returns:
        [B, 68, 3] in [-1, 1] inside the frame, z = 0.
    """
    points = 2 * landmarks - 1
    return F.pad(points.clamp(-1, 1) if inside else points, (0, 1))
