"""Landmarks of a photo or a clip -> identity, expression and pose (docs/spec/face3d.md#6).

The objective is that of the released system; it is minimised by Levenberg-Marquardt steps: frames are blocks
of a banded system (the Laplacian terms couple neighbours), and the identity that they share is eliminated by
a Schur complement.

Shape can imitate a small turn of the head, and its distance most of all. Along such directions only the priors
decide, and the objective is up to nine orders of magnitude flatter than along others. So that rounding has no
say in the pose, the system is built and solved in float64, and steps bend along curved valleys.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.linalg.blas import dsyrk
from threadpoolctl import threadpool_limits
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE, FaceCoefficients, pose_points, project
from modules.face3d.fit_config import FitConfig
from modules.face3d.landmark_sets import (
    EYES,
    FACE_OVAL,
    LIPS,
    UPPER_LIDS,
    landmark_weights,
)
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import CAMERA_DISTANCE, FITTING_FOCAL_LENGTH
from modules.geometry.rotation import euler_angles, rotation_matrix

PICTURE = 224  # residuals are measured in pixels of a picture of this size
_FRAME = EXPRESSION_SIZE + 6  # unknowns of a frame: expression, euler, translation
_MATRIX_SERVES = 0.2  # relative decrease of the objective below which its matrix is kept
_LEAST_DAMPING, _GREATEST_DAMPING = 1e-12, 1e3
_BEND = 0.1  # part of a step over which the residuals' second derivative is taken
_CHUNK = 4  # frames whose derivatives are taken together: about a processor's cache
_SEGMENT = 500  # frames solved together
_SAMPLE = 25  # frames, evenly over a clip of more than twice as many, that tell its identity
_OVERLAP = 12  # frames that neighbouring segments share


def fit_photo(model: MorphableModel, landmarks: Tensor, config: FitConfig | None = None) -> FaceCoefficients:
    """Fit one picture.

    Args:
        model: on any device; the fit itself runs on the CPU.
        landmarks: [478, 2] or [468, 2] MediaPipe points, picture fractions, x right, y down; square picture.
        config: default `model.fit_prior.photo`.
    Returns:
        One row, float32, on the device of `landmarks`.
    Raises:
        ValueError: landmarks of a wrong shape, or not finite.
    """
    return fit_clip(model, landmarks[None], config or model.fit_prior.photo)


def fit_clip(model: MorphableModel, landmarks: Tensor, config: FitConfig | None = None) -> FaceCoefficients:
    """Fit a clip of one person: one identity, and expression and pose of every frame.

    Args:
        model: on any device; the fit itself runs on the CPU.
        landmarks: [T, 478, 2] or [T, 468, 2], as in `fit_photo`.
        config: default `model.fit_prior.clip`.
    Returns:
        T rows (identity one row), float32, on the device of `landmarks`.
    Raises:
        ValueError: landmarks of a wrong shape, or not finite.
    """
    config = config or model.fit_prior.clip
    if landmarks.ndim != 3 or tuple(landmarks.shape[1:]) not in ((468, 2), (478, 2)) or not len(landmarks):
        raise ValueError(f"landmarks have shape {tuple(landmarks.shape)}; expected [T, 468 or 478, 2]")
    if not landmarks.isfinite().all():
        raise ValueError("landmarks hold numbers that are not finite; fit only frames with a face")
    with threadpool_limits(1):  # the blocks are small: threads would wait for each other
        return _fit(model, landmarks, config).to(landmarks.device)


def fit_weights(config: FitConfig, valid: Tensor) -> Tensor:
    """Weight of each of the L = 468 or 478 points, 0 where `valid` [L] is False; [L] float64."""
    sets = ((FACE_OVAL, config.oval), (EYES, config.eyes), (UPPER_LIDS, config.upper_lids), (LIPS, config.lips))
    return landmark_weights(len(valid), sets) * valid.cpu()


def landmark_loss(projected: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean of weight times squared difference over frames, points and both coordinates.

    Args:
        projected, target: [T, L, 2] pixels of a picture of side `PICTURE`.
        weights: [L].
    """
    return (weights[:, None] * (projected - target) ** 2).mean()


def _second_difference(frames: int) -> Tensor:
    """[T, T] matrix of the filter (-1/2, 1, -1/2) with repeated ends; float64."""
    matrix, index = torch.eye(frames, dtype=torch.float64), torch.arange(frames)
    for neighbour in (index - 1, index + 1):
        matrix[index, neighbour.clamp(0, frames - 1)] -= 0.5
    return matrix


class FitProblem:
    """The objective of a clip of T frames, its gradient and its Gauss-Newton matrices.

    Args:
        model, landmarks, config: as for `fit_clip`.
        coupled: with the Laplacian terms; False takes the frames as unrelated pictures of one person.
    """

    def __init__(self, model: MorphableModel, landmarks: Tensor, config: FitConfig, coupled: bool = True) -> None:
        count = min(landmarks.shape[1], max(model.counts))
        self.config = config
        parts = model.landmark_basis(count)
        self.mean, identity, expression = (part.detach().cpu().double() for part in parts)
        self.basis = torch.cat([expression, identity], dim=-1)  # [L, 3, 64 + 80]
        unused = torch.zeros(count, 3, 6, dtype=torch.float64)
        self._columns = torch.cat([expression, unused, identity], dim=-1)  # [L, 3, 150]
        self.weights = fit_weights(config, model.embedding(count).valid)  # [L]
        self.target = PICTURE * landmarks[:, :count].detach().cpu().double()  # [T, L, 2]
        self.range = model.expression_range.detach().cpu().double()  # [64, 2]
        smooth = [config.expression_smoothness] * EXPRESSION_SIZE + [config.pose_smoothness] * 6
        widths = [EXPRESSION_SIZE] * EXPRESSION_SIZE + [3] * 6
        smooth = torch.tensor(smooth, dtype=torch.float64) * coupled
        self.smoothness = smooth / torch.tensor(widths) / self.frames  # [70] per squared difference
        self.difference = _second_difference(self.frames)  # [T, T]

    @property
    def frames(self) -> int:
        """T, the number of frames."""
        return len(self.target)

    def points(self, identity: Tensor, per_frame: Tensor) -> Tensor:
        """Landmarks without pose: identity [1, 80], per_frame [T, 70] -> [T, L, 3] dm."""
        shape = torch.cat([per_frame[:, :EXPRESSION_SIZE], identity.expand(len(per_frame), -1)], dim=1)
        return self.mean + torch.einsum("tk,lck->tlc", shape, self.basis)

    def projection(self, identity: Tensor, per_frame: Tensor) -> Tensor:
        """The landmarks projected into the picture: identity [1, 80], per_frame [T, 70] -> [T, L, 2] pixels."""
        posed = pose_points(self.points(identity, per_frame), per_frame[:, -6:-3], per_frame[:, -3:])
        return PICTURE * project(posed)

    def objective(self, identity: Tensor, per_frame: Tensor, regularised: bool = True) -> Tensor:
        """The number to minimise; differentiable.

        Args:
            identity: [1, 80].
            per_frame: [T, 70] expression, euler, translation.
            regularised: False gives the landmark term alone.
        """
        loss = landmark_loss(self.projection(identity, per_frame), self.target, self.weights)
        if not regularised:
            return loss
        expression = per_frame[:, :EXPRESSION_SIZE]
        loss = loss + self.config.identity_prior * identity.square().mean()
        loss = loss + self.config.expression_prior * expression.square().mean()
        loss = loss + (self.smoothness * (self.difference @ per_frame) ** 2).sum()
        return loss + self.config.range_penalty / self.frames * self._excess(expression).square().sum()

    def _excess(self, expression: Tensor) -> Tensor:
        """Signed distance outside the sensible range; [T, 64]."""
        return expression - torch.minimum(torch.maximum(expression, self.range[:, 0]), self.range[:, 1])

    def first_guess(self) -> Tensor:
        """First guess [T, 70]: no expression, pose of the mean face under a scaled orthographic camera."""
        design = torch.cat([self.mean, torch.ones(len(self.mean), 1, dtype=torch.float64)], dim=1)  # [L, 4]
        scale = self.weights.sqrt()[:, None]
        centred = (self.target / PICTURE - 0.5) * torch.tensor([1.0, -1.0], dtype=torch.float64)
        affine = torch.linalg.lstsq((scale * design).expand(self.frames, -1, -1), scale * centred).solution
        rows = affine[:, :3].mT  # [T, 2, 3]
        size = torch.linalg.svdvals(rows).mean(dim=1)  # focal / depth
        left, _, right = torch.linalg.svd(rows, full_matrices=False)
        rows = left @ right
        rotation = torch.cat([rows, torch.cross(rows[:, :1], rows[:, 1:], dim=-1)], dim=1)
        towards = CAMERA_DISTANCE - FITTING_FOCAL_LENGTH / size
        translation = torch.cat([affine[:, 3] / size[:, None], towards[:, None]], dim=1)
        neutral = torch.zeros(self.frames, EXPRESSION_SIZE, dtype=torch.float64)
        return torch.cat([neutral, euler_angles(rotation), translation], dim=1)

    def gradient(self, identity: Tensor, per_frame: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the objective by the identity [1, 80] and by the frames' unknowns [T, 70]."""
        point = identity.detach().requires_grad_(), per_frame.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.objective(*point), point)

    def bend(self, point: tuple[Tensor, Tensor], step: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What the second derivative of the residuals along a step adds to the gradient.

        Args:
            point, step: identity [1, 80] and frames [T, 70].
        Returns:
            [1, 80] and [T, 70].
        """
        ahead, behind = ([x + part * d for x, d in zip(point, step)] for part in (_BEND, -_BEND))
        leaves = [x.detach().requires_grad_() for x in point]
        with torch.enable_grad():
            here = self.projection(*leaves)
            second = (self.projection(*ahead) - 2 * here.detach() + self.projection(*behind)) / _BEND**2
            product = 2 * (self.weights[:, None] * second * here).sum() / here.numel()
            return torch.autograd.grad(product, leaves)

    def curvature(self, identity: Tensor, per_frame: Tensor, fixed_identity: bool = False) -> "Curvature":
        """Gauss-Newton matrix of the objective at identity [1, 80] and per_frame [T, 70], without the range penalty.

        A fixed identity has none of the matrix: its parts are empty.
        """
        size = _FRAME if fixed_identity else _FRAME + IDENTITY_SIZE
        parts = (self._jacobian(identity, rows, size) for rows in per_frame.split(_CHUNK))  # [<= 4, 2L, size] each
        hessian = torch.stack([_twice_gram(rows) for part in parts for rows in part])  # [T, size, size]
        frame, shared = slice(0, _FRAME), slice(_FRAME, None)
        blocks, block = hessian[:, frame, frame], hessian[:, shared, shared].sum(dim=0)
        prior = 2 * self.config.expression_prior / (self.frames * EXPRESSION_SIZE)
        blocks.diagonal(dim1=1, dim2=2)[:, :EXPRESSION_SIZE] += prior
        block.diagonal().add_(2 * self.config.identity_prior / IDENTITY_SIZE)
        return Curvature(
            blocks, hessian[:, frame, shared], block, 2 * self.difference.T @ self.difference, self.smoothness
        )

    def penalty_curvature(self, per_frame: Tensor) -> Tensor:
        """Second derivative of the range penalty by the frames' unknowns; [T, 70]."""
        outside = self._excess(per_frame[:, :EXPRESSION_SIZE]) != 0
        penalty = torch.zeros_like(per_frame)
        penalty[:, :EXPRESSION_SIZE] = 2 * self.config.range_penalty / self.frames * outside
        return penalty

    def _jacobian(self, identity: Tensor, per_frame: Tensor, size: int = _FRAME + IDENTITY_SIZE) -> Tensor:
        """Derivatives of the weighted residuals of some frames by expression, euler, translation, identity.

        Args:
            identity: [1, 80].
            per_frame: [N, 70], any of the T frames.
            size: how many of these 150 unknowns.
        Returns:
            [N, 2L, size].
        """
        rotation = rotation_matrix(per_frame[:, -6:-3])
        turned = self.points(identity, per_frame) @ rotation.mT  # [N, L, 3]
        posed = turned + per_frame[:, None, -3:]
        depth = CAMERA_DISTANCE - posed[..., 2]
        scale = (self.weights / (2 * self.weights.numel() * self.frames)).sqrt()
        zoom = scale * PICTURE * FITTING_FOCAL_LENGTH / depth  # [N, L]
        of_point = torch.zeros(*turned.shape[:2], 2, 3, dtype=torch.float64)  # [N, L, 2, 3]
        of_point[..., 0, 0], of_point[..., 1, 1] = zoom, -zoom
        of_point[..., 0, 2], of_point[..., 1, 2] = zoom * posed[..., 0] / depth, -zoom * posed[..., 1] / depth
        axes = _rotation_axes(per_frame[:, -6:-3])[:, None].expand(-1, turned.shape[1], -1, -1)
        moved = torch.cross(axes, turned[:, :, None].expand_as(axes), dim=-1)  # d turned / d angle
        jacobian = torch.empty(*turned.shape[:2], 2, size, dtype=torch.float64)  # [N, L, 2, size]
        for part, of_frame in zip(of_point @ rotation[:, None], jacobian):  # at once PyTorch would repeat the columns
            torch.matmul(part, self._columns[..., :size], out=of_frame)
        jacobian[..., EXPRESSION_SIZE : EXPRESSION_SIZE + 3] = of_point @ moved.mT
        jacobian[..., EXPRESSION_SIZE + 3 : _FRAME] = of_point
        return jacobian.flatten(1, 2)


@dataclass(frozen=True)
class Curvature:
    """Gauss-Newton matrix of T frames: blocks [T, 70, 70], cross [T, 70, 80], shared [80, 80].

    Neighbouring frames are coupled by `coupling` [T, T] times `smoothness` [70] on the diagonal.
    """

    blocks: Tensor
    cross: Tensor
    shared: Tensor
    coupling: Tensor
    smoothness: Tensor

    def step(
        self, gradient: tuple[Tensor, Tensor], diagonal: Tensor, damping: float, fixed_identity: bool
    ) -> tuple[Tensor, Tensor]:
        """The damped Gauss-Newton step.

        Args:
            gradient: [1, 80] and [T, 70].
            diagonal: [T, 70], added to the matrix.
            damping: grows the diagonal by this part.
            fixed_identity: do not move the identity.
        Returns:
            Changes of the identity [1, 80] and of the frames [T, 70].
        """
        frames, size = diagonal.shape
        solve = self._solver(diagonal, damping)
        of_frames = gradient[1].reshape(-1, 1)
        if fixed_identity:
            return torch.zeros_like(gradient[0]), -solve(of_frames).view(frames, size)
        cross = self.cross.reshape(frames * size, -1)  # [70 T, 80]
        solved = solve(torch.cat([cross, of_frames], dim=1))
        schur = self.shared + damping * torch.diag(self.shared.diagonal()) - cross.T @ solved[:, :-1]
        identity = torch.linalg.solve(schur, cross.T @ solved[:, -1] - gradient[0][0])
        return identity[None], -(solved[:, -1] + solved[:, :-1] @ identity).view(frames, size)

    def _solver(self, diagonal: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
        """The inverse of the frames' damped matrix, as a function of columns [70 T, N].

        Raises:
            LinAlgError: rounding made the matrix indefinite.
        """
        if not self.smoothness.any():  # no frame knows another
            blocks = self.blocks.clone()
            blocks.diagonal(dim1=1, dim2=2).add_(diagonal).mul_(1 + damping)
            lower = torch.linalg.cholesky(blocks)
            return lambda right: torch.cholesky_solve(right.view(len(blocks), -1, right.shape[1]), lower).flatten(0, 1)
        factor = cholesky_banded(self._band(diagonal, damping), lower=True, check_finite=False)
        return lambda right: torch.from_numpy(cho_solve_banded((factor, True), right.numpy(), check_finite=False))

    def _band(self, diagonal: Tensor, damping: float) -> np.ndarray:
        """Lower band of the frames' matrix, as LAPACK wants it: [bandwidth, 70 T]."""
        frames, size = diagonal.shape
        band = torch.zeros(frames, size, 2 * size + 1, dtype=torch.float64)  # one row a column
        for column in range(size):
            band[:, column, : size - column] = self.blocks[:, column:, column]
        band[:, :, 0] = (1 + damping) * (band[:, :, 0] + diagonal)
        for distance in range(min(3, frames)):
            between = self.coupling.diagonal(-distance)[:, None] * self.smoothness  # [T - distance, 70]
            band[: frames - distance, :, distance * size] += between
        return band.flatten(0, 1).T.numpy()


def _twice_gram(rows: Tensor) -> Tensor:
    """2 JᵀJ of J [N, size], by BLAS's product for symmetric matrices: [size, size]."""
    half = torch.from_numpy(dsyrk(2.0, rows.numpy().T)).triu()
    return half + half.triu(1).T


def _rotation_axes(euler: Tensor) -> Tensor:
    """The axes about which M turns when pitch, yaw, roll grow: [T, 3] -> [T, 3, 3], one axis a row."""
    zero = torch.zeros_like(euler[:, 0])
    full = rotation_matrix(euler)
    roll = rotation_matrix(torch.stack([zero, zero, euler[:, 2]], dim=-1))
    vertical = torch.tensor([0.0, 0.0, 1.0]).to(euler).expand(len(euler), 3)
    return torch.stack([full[..., 0], roll[..., 1], vertical], dim=1)


def _fit(model: MorphableModel, landmarks: Tensor, config: FitConfig) -> FaceCoefficients:
    """Short clips at once; of a longer one the identity from a sample, and then its segments from that sample on."""
    frames = len(landmarks)
    if frames <= 2 * _SAMPLE:
        return _solve(FitProblem(model, landmarks, config), None)
    sample = torch.linspace(0, frames - 1, _SAMPLE).round().long()
    still = _solve(FitProblem(model, landmarks[sample], config, coupled=False), None)
    nearest = (torch.arange(frames)[:, None] - sample).abs().argmin(dim=1)  # [T], numbers of the sample
    rows = []
    for start in range(0, frames, _SEGMENT):
        first, stop = max(start - _OVERLAP, 0), min(start + _SEGMENT + _OVERLAP, frames)
        part = _solve(FitProblem(model, landmarks[first:stop], config), still[nearest[first:stop]])
        rows.append(part[start - first : start - first + _SEGMENT])
    fields = (torch.cat([getattr(r, name) for r in rows]) for name in ("expression", "euler", "translation"))
    return FaceCoefficients(still.identity, *fields)


def _solve(problem: FitProblem, start: FaceCoefficients | None) -> FaceCoefficients:
    """Levenberg-Marquardt until the objective stops falling; from `start`, whose identity stays as it is.

    The matrix of an earlier point serves while the objective changes little, and is renewed when a step
    fails.
    """
    fixed = start is not None
    point = torch.zeros(1, IDENTITY_SIZE, dtype=torch.float64), problem.first_guess()
    if start is not None:
        point = start.identity.double(), torch.cat([start.expression, start.euler, start.translation], dim=1).double()
    value, damping, curvature, fresh = float(problem.objective(*point)), 1e-4, None, False
    for _ in range(problem.config.iterations):
        if curvature is None:
            curvature, fresh = problem.curvature(*point, fixed), True
        trial, after = _trial(problem, curvature, point, value, damping, fixed)
        if not after <= value:
            if fresh and damping > _GREATEST_DAMPING:
                break
            damping, curvature = damping * (10 if fresh else 1), curvature if fresh else None
            continue
        decrease, point, value = value - after, trial, after
        damping, fresh = max(damping / 10, _LEAST_DAMPING), False
        if decrease <= problem.config.tolerance * value:
            break
        curvature = curvature if decrease < _MATRIX_SERVES * value else None
    rows = [part.float() for part in (point[0], *point[1].split((EXPRESSION_SIZE, 3, 3), dim=1))]
    return FaceCoefficients(*rows)


def _trial(
    problem: FitProblem, curvature: Curvature, point: tuple[Tensor, Tensor], value: float, damping: float, fixed: bool
) -> tuple[tuple[Tensor, Tensor], float]:
    """The point after a damped step, and its objective: infinite where rounding made the matrix indefinite.

    A straight step that lowers nothing is bent by its second order ("geodesic acceleration", Transtrum and Sethna
    2012, arXiv 1201.5885): where shape imitates motion, the least objective lies along a narrow curved valley.
    """
    diagonal = problem.penalty_curvature(point[1])
    try:
        step = curvature.step(problem.gradient(*point), diagonal, damping, fixed)
        trial = point[0] + step[0], point[1] + step[1]
        after = float(problem.objective(*trial))
        if after <= value:
            return trial, after
        bend = curvature.step(problem.bend(point, step), diagonal, damping, fixed)
        trial = trial[0] + bend[0] / 2, trial[1] + bend[1] / 2
        return trial, float(problem.objective(*trial))
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
        return point, torch.inf
