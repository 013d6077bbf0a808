"""Motion metrics: how well the mouth follows in time, and landmarks in the picture."""

import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.landmark_sets import (
    EYE_CORNERS,
    EYE_CORNERS_68,
    INNER_LIP_MIDDLES,
    OUTER_LIP_MIDDLES,
)
from modules.face3d.morphable_model import MorphableModel


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
    return correlation(_lip_parting(prediction), _lip_parting(target), mask)


def _lip_parting(points: Tensor) -> Tensor:
    """[B, T, 1404] displacements -> vertical displacement of the upper from the lower outer lip [B, T]."""
    upper, lower = OUTER_LIP_MIDDLES
    return points[..., 3 * upper + 1] - points[..., 3 * lower + 1]


def mouth_opening(landmarks: Tensor) -> Tensor:
    """Distance of the inner lips over the distance of the outer eye corners: 0 closed, about 0.7 wide open.

    Args:
        landmarks: [..., 478, 2 or more], in any unit that is the same along x and y.
    Returns:
        [...]; NaN where the landmarks are NaN.
    """
    return _distance(landmarks, INNER_LIP_MIDDLES) / _distance(landmarks, EYE_CORNERS)


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
    return error[:, valid].mean(dim=1) / _distance(landmarks, EYE_CORNERS_68 if count == 68 else EYE_CORNERS)


def _distance(landmarks: Tensor, pair: tuple[int, int]) -> Tensor:
    """[..., L, C] -> Euclidean distance of two of the landmarks [...]."""
    return torch.linalg.vector_norm(landmarks[..., pair[0], :] - landmarks[..., pair[1], :], dim=-1)
