"""Motion metrics: expression, pose and landmarks against those of the driving or true video, and their smoothness.

AED, APD and AKD are names for families: say with each number which network or fit it is of, mean or sum. Frames in
which either of two videos shows no face do not count; `series.ClipSeries.faces` says how many these are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.landmark_sets import (
    EYE_CORNERS,
    EYE_CORNERS_68,
    INNER_LIP_MIDDLES,
    LANDMARKS_68,
    LID_MIDDLES,
    LIPS,
    OUTER_LIP_MIDDLES,
)
from modules.face3d.morphable_model import MorphableModel
from modules.metrics.series import ClipSeries, distance

FACE_POINTS = 468  # of MediaPipe's 478, without the irises


def correlation(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Pearson correlation over time: covariance of a and b over the product of their deviations, mean over the clips.

    From -1 to 1, higher is better; 0 for a clip in which one of them never changes.

    Args:
        a, b: [B, T].
        mask: [B, T], 1 on real frames.
    Returns:
        Scalar in [-1, 1].
    """
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    a, b = ((x - (x * mask).sum(dim=1, keepdim=True) / count) * mask for x in (a, b))
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-8)).mean()


def mouth_correlation(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """`correlation` of the outer lips' vertical distance beyond the mean face's; -1 to 1, higher is better.

    Args:
        prediction, target: [B, T, 1404], displacements of 468 landmarks in 0.1 dm, point-major xyz (`Keypoints`).
        mask: [B, T], 1 on real frames.
    """
    return correlation(lip_parting(prediction), lip_parting(target), mask)


def lip_parting(points: Tensor) -> Tensor:
    """[B, T, 1404] displacements -> vertical displacement of the upper from the lower outer lip [B, T]."""
    upper, lower = OUTER_LIP_MIDDLES
    return points[..., 3 * upper + 1] - points[..., 3 * lower + 1]


def landmark_error(model: MorphableModel, coefficients: FaceCoefficients, landmarks: Tensor) -> Tensor:
    """Mean distance of a fit's landmarks from given ones over the distance of the outer eye corners.

    0 or more, lower is better; about 0.01 for a fitted talking head.

    Args:
        model: the face model of the fit.
        coefficients: T rows.
        landmarks: [T, L, 2] picture fractions, L = 68, 468 or 478.
    Returns:
        [T]; points that the mesh does not have do not count.
    """
    count = min(landmarks.shape[1], max(model.counts))
    points = model.landmarks(coefficients.identity, coefficients.expression, count)
    projected = project(pose_points(points, coefficients.euler, coefficients.translation))
    error = torch.linalg.vector_norm(projected - landmarks[:, :count], dim=-1)
    valid = model.embedding(count).valid
    return error[:, valid].mean(dim=1) / distance(landmarks, EYE_CORNERS_68 if count == 68 else EYE_CORNERS)


def aed(made: ClipSeries, driver: ClipSeries, total: bool = False) -> float:
    """Average expression distance: |e(made) - e(driver)|, mean over frames and the 64 coefficients.

    0 or more, lower is better. The paper's e is of Deep3DFaceRecon (ResNet-50, BFM 2009); ours is of this project's
    landmark fit, with whatever face model made both series: another scale, to be named so (docs/spec/training.md#9-2).
    A fit answers to noise of its landmarks: 0.3 pixels at 512 alone make 0.008 with the procedural model, 1 pixel 0.03.

    Args:
        made, driver: of the same frames.
        total: sum over the coefficients instead of their mean, as some papers have it.
    """
    difference = _shared(made, driver, "expression").abs()
    return float((difference.sum(dim=1) if total else difference.mean(dim=1)).mean())


def apd(made: ClipSeries, driver: ClipSeries, translation: bool = True, total: bool = False) -> float:
    """Average pose distance: |p(made) - p(driver)|, mean over frames and numbers of the pose.

    0 or more, lower is better; radians, and decimetres for the translation. Network as for `aed`; a translation
    compares only when both series are of pictures cropped alike.

    Args:
        made, driver: of the same frames.
        translation: 3 euler angles and 3 translations; False: the angles alone.
        total: sum over the numbers instead of their mean.
    """
    names = ("euler", "translation") if translation else ("euler",)
    difference = torch.cat([_shared(made, driver, name) for name in names], dim=1).abs()
    return float((difference.sum(dim=1) if total else difference.mean(dim=1)).mean())


def akd(made: Tensor, truth: Tensor, size: int) -> float:
    """Average keypoint distance: |p(made) - p(truth)|, mean over frames, points and both axes, pixels at 256 x 256.

    0 or more, lower is better; about 1 to 5. The paper's p are the 68 points of face-alignment
    (`networks.load("face_alignment")`); `mediapipe_68` picks the 68 nearest of MediaPipe's, another scale.

    Args:
        made, truth: [T, L, 2] pixels of S x S pictures; NaN rows do not count.
        size: S.
    """
    error = (made - truth).abs().flatten(1).mean(dim=1) * 256 / size
    return float(error[error.isfinite()].mean())


def mediapipe_68(landmarks: Tensor) -> Tensor:
    """MediaPipe's [..., 478, 2] -> the nearest of the 68 points in iBUG order [..., 68, 2]."""
    return landmarks[..., list(LANDMARKS_68), :]


def temporal_jitter(made: ClipSeries, truth: ClipSeries) -> float:
    """How restless a video is: mean length of the landmarks' second difference in time over that of the truth.

    0 or more, 1 is as the truth; more is jitter, less is smoothing (a still picture has 0). Points of MediaPipe without
    the irises, in shares of the picture; both series at 25 frames a second.
    """
    return _restlessness(made) / _restlessness(truth)


def _restlessness(series: ClipSeries) -> float:
    points = series.landmarks[:, :FACE_POINTS] / series.size
    second = torch.linalg.vector_norm(points[2:] - 2 * points[1:-1] + points[:-2], dim=-1).mean(dim=1)
    return float(second[second.isfinite()].mean())


@dataclass(frozen=True, kw_only=True)
class LandmarkErrors:
    """Errors in pixels at 512 x 512, means over frames; 0 or more, lower is better.

    Args:
        all: distance of the 468 points.
        lip_shape: distance of the 40 lip points after both lips' centres are laid upon each other.
        mouth_gap: |gap of the inner lips - that of the truth|.
        eye_gap: |gap of the lids - that of the truth|, mean of both eyes.
    """

    all: float
    lip_shape: float
    mouth_gap: float
    eye_gap: float


def landmark_errors(made: ClipSeries, truth: ClipSeries) -> LandmarkErrors:
    """MediaPipe's landmarks of the video against those of the true frames, in pixels at 512 x 512."""
    both = made.seen & truth.seen
    a, b = (512 / series.size * series.landmarks[both] for series in (made, truth))
    lips = [x[:, list(LIPS)] - x[:, list(LIPS)].mean(dim=1, keepdim=True) for x in (a, b)]
    gaps = [torch.stack([distance(x, pair) for pair in (INNER_LIP_MIDDLES, *LID_MIDDLES)]) for x in (a, b)]
    gap = (gaps[0] - gaps[1]).abs().mean(dim=1)  # mouth, either eye
    return LandmarkErrors(
        all=float(torch.linalg.vector_norm((a - b)[:, :FACE_POINTS], dim=-1).mean()),
        lip_shape=float(torch.linalg.vector_norm(lips[0] - lips[1], dim=-1).mean()),
        mouth_gap=float(gap[0]),
        eye_gap=float(gap[1:].mean()),
    )


def _shared(made: ClipSeries, other: ClipSeries, name: str) -> Tensor:
    """Differences of a field in the frames where both show a face."""
    if len(made) != len(other):
        raise ValueError(f"{len(made)} frames against {len(other)}; cut both to the same")
    difference = getattr(made, name) - getattr(other, name)
    return difference[difference.isfinite().all(dim=1)]
