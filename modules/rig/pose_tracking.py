"""Head poses of a clip by its pictures: skin and hair that both frames show say more of a nod than landmarks do.

The landmarks of a network give way when a mouth opens or brows rise, and a fit takes that for a turn of the head by up
to four degrees. Here every pose is corrected until the head of the first frame lies on that of its own: Lucas-Kanade
over the triangles of the face's mesh, whose expression stays that of the fit, and of the hair and ears around it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from modules.analysis.crop import Box, crop_picture
from modules.face3d.coefficients import EXPRESSION_SIZE, FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import CAMERA_DISTANCE, FITTING_FOCAL_LENGTH
from modules.geometry.rotation import rotation_matrix
from modules.rig.head_surface import HeadSurface, crossed
from modules.rig.landmark_mesh import ALL_POINTS, COPIED

Array = NDArray[np.float64]
_STEP = 1e-3  # radians over which the derivative of a rotation is taken
_SETTLED = 1e-4  # radians, the step at which a pose is left
_LEAST_GAIN = 0.3  # contrast of the first frame by that of another
_INLIERS = 1.5  # deviations up to which a difference counts in full


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How poses are corrected. Lengths of pictures are pixels of the square round the head, `side` of them wide."""

    side: int = 512
    room: float = 2.2  # width of the square by that of the face
    blur: float = 1.0  # deviation of the filter that takes away noise and pores
    stillness: float = 0.3  # dm by which expressions move a point that counts half
    turn: float = 0.035  # radians by which landmarks are expected to be wrong; less keeps nearer to them
    shift: float = 0.05  # dm, across the picture
    distance: float = 0.1  # dm, along it
    expression: float = 1.0  # of the face model's, by which that of the landmarks is expected to be wrong
    rims: float = 0.004  # dm by which landmarks of lips and lids are expected to be wrong
    evidence: float = 300.0  # independent points among those of the face
    grazing: float = 0.2  # cosine to the ray at which a point of either frame is not seen
    frontal: float = 0.5  # cosine from which it counts in full
    least_seen: float = 0.3  # part of the points that both frames must show
    iterations: int = 6  # of the pose
    refinements: int = 2  # of pose and expression


def track_poses(
    model: MorphableModel,
    face: FaceCoefficients,
    frames: Iterable[np.ndarray],
    classes: np.ndarray | None = None,
    config: TrackingConfig | None = None,
) -> FaceCoefficients:
    """Correct the poses of a fitted clip by its pictures; holds one frame at a time.

    Args:
        model: the fitted face model.
        face: its coefficients, T rows; identity one row.
        frames: T pictures uint8 [S, S, 3], those that the landmarks of the fit are fractions of; S may change.
        classes: [H, H], the six classes of the first frame (modules/analysis/segmentation_classes.py), which show hair
            and ears; None follows the face alone.
    Returns:
        The same with other poses; the first row is as it was, as is every row whose head shows too little of what
        the first frame shows.
    Raises:
        ValueError: there are fewer or more frames than rows.
    """
    tracker = _Tracker(HeadSurface.of(model, face[0], classes), face, config or TrackingConfig())
    states = [tracker.follow(row, frame) for row, frame in zip(range(len(face)), frames, strict=True)]
    rows = torch.from_numpy(np.stack(states)).to(face.euler)
    expression = face.expression[:1] + rows[:, 6:]
    return face.replace(euler=rows[:, :3], translation=rows[:, 3:6], expression=expression)


@dataclass(frozen=True)
class _View:
    """A frame's square [side, side], its slopes across and down, and the square in fractions: left, top, width."""

    picture: NDArray[np.float32]
    across: np.ndarray
    down: np.ndarray
    box: Array


class _Tracker:
    def __init__(self, surface: HeadSurface, face: FaceCoefficients, config: TrackingConfig) -> None:
        self.surface, self.config = surface, config
        self._change = (face.expression - face.expression[:1]).double().cpu().numpy()
        self._poses = torch.cat([face.euler, face.translation], dim=1).double().cpu().numpy()
        self._middles = surface.canonical[surface.corners].mean(1)  # [N, 3]
        self._moves = surface.basis[surface.corners].mean(1)  # [N, 3, 64]
        moved = np.sqrt((surface.basis**2).sum(1).mean(1))[surface.corners].mean(1)
        x, y, _ = self._middles.T
        self._light = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)  # how light may change, [N, 6]
        self._share = surface.share  # [N]
        self._still = surface.share / (1 + (moved / config.stillness) ** 2)
        spreads = [config.turn] * 3 + [config.shift] * 2 + [config.distance] + [config.expression] * EXPRESSION_SIZE
        self._prior = np.diag([*np.array(spreads) ** -2.0, *[1e-9] * (1 + self._light.shape[1])])  # [77, 77]
        rims = surface.basis[list(COPIED)].reshape(-1, EXPRESSION_SIZE) / config.rims
        self._prior[6 : len(spreads), 6 : len(spreads)] += rims.T @ rims
        self._first: NDArray[np.float32] = np.zeros(0, np.float32)  # the first frame at the points, [N]
        self._seen_first: Array = np.zeros(0)

    def follow(self, row: int, frame: np.ndarray) -> Array:
        """Angles, translation and change of the expression [6 + 64] of a row, from its frame."""
        start = np.concatenate([self._poses[row], self._change[row]])
        vertices = self.surface.canonical + self.surface.basis @ start[6:]
        posed = vertices @ _rotations(start[:3])[0].T + start[3:6]
        picture, box = self._square(frame, _places(posed[:ALL_POINTS]))
        seen = self._seen(posed, box)
        if row == 0:
            self._first = _sample(picture, self._inside(posed[self.surface.corners].mean(1), box))
            self._seen_first = seen
            return start
        seen = seen * self._seen_first
        if (self._still * seen).sum() < self.config.least_seen * self._still.sum():
            return start
        view = _View(picture, *(cv2.Sobel(picture, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))), box)
        state = start
        for _ in range(self.config.iterations):
            step = self._step(state, start, view, self._still * seen, 6)
            state = state + step
            if np.abs(step[:3]).max() < _SETTLED:
                break
        for _ in range(self.config.refinements):
            state = state + self._step(state, start, view, self._share * seen, len(start))
        return state

    def _step(self, state: Array, start: Array, view: "_View", weight: Array, count: int) -> Array:
        """A Gauss-Newton step of the first `count` numbers of the state, towards where the points look as in the first
        frame, in another light."""
        points = self._middles + self._moves @ state[6:]
        rotation, *turned = _rotations(state[:3])
        posed = points @ rotation.T + state[3:6]
        places = self._inside(posed, view.box)
        lit = np.column_stack([_sample(view.picture, places), self._light])  # contrast and light are linear: [N, 7]
        weighted = (lit * weight[:, None]).T
        looks = np.linalg.solve(weighted @ lit, weighted @ self._first)
        error = self._first - lit @ looks
        deviation = 1.4826 * np.median(np.abs(error[weight > 0])) + 1e-3
        trust = weight / np.maximum(1, np.abs(error) / (_INLIERS * deviation))
        trust *= self.config.evidence / self.surface.of_face / deviation**2
        slope = max(looks[0], _LEAST_GAIN) * self._slope(view, places, posed)
        turns = [np.einsum("nc,nc->n", slope, points @ (other - rotation).T) / _STEP for other in turned]
        columns = [*turns, slope]
        if count > 6:
            columns.append(np.einsum("nc,nck->nk", slope @ rotation, self._moves))
        change = np.column_stack([*columns, lit])  # [N, count + 7]
        free = np.r_[:count, len(start) : len(self._prior)]
        matrix = (change * trust[:, None]).T @ change + self._prior[np.ix_(free, free)]
        pull = np.zeros(len(free))
        pull[:count] = self._prior[:count, :count] @ (state - start)[:count]
        step = np.zeros(len(start))
        step[:count] = np.linalg.solve(matrix, change.T @ (trust * error) - pull)[:count]
        return step

    def _slope(self, view: "_View", places: NDArray[np.float32], posed: Array) -> Array:
        """How the picture changes at points [N, 3] when these move, [N, 3] by dm."""
        across, down = _sample(view.across, places), _sample(view.down, places)
        depth = CAMERA_DISTANCE - posed[:, 2]
        scale = FITTING_FOCAL_LENGTH / depth * self.config.side / view.box[2]
        towards = (across * posed[:, 0] - down * posed[:, 1]) / depth
        return np.stack([across, -down, towards], axis=1) * scale[:, None]

    def _square(self, frame: np.ndarray, places: Array) -> tuple[NDArray[np.float32], Array]:
        """A frame [S, S, 3] round its head, gray, without noise, [side, side], and the square in fractions: left, top,
        width."""
        size, side = len(frame), self.config.side
        low, high = places.min(0) * size, places.max(0) * size
        half = self.config.room * float((high - low).max()) / 2
        left, top = (int(value) for value in np.rint((low + high) / 2 - half))
        width = max(int(round(2 * half)), 2)
        gray = crop_picture(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), Box(left, top, left + width, top + width), side)
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), self.config.blur)
        return gray, np.array([left, top, width]) / size

    def _inside(self, posed: Array, box: Array) -> NDArray[np.float32]:
        """Where posed points [N, 3] lie in a square: [N, 2] pixels."""
        return ((_places(posed) - box[:2]) / box[2] * self.config.side - 0.5).astype(np.float32)

    def _seen(self, posed: Array, box: Array) -> Array:
        """How well the triangles of a posed head are seen, [N] in [0, 1]: towards the camera, in the square."""
        corners = posed[self.surface.corners]
        middle, normal = corners.mean(1), self.surface.outwards[:, None] * crossed(corners)
        ray = (0, 0, CAMERA_DISTANCE) - middle
        cosine = (normal * ray).sum(1) / (np.linalg.norm(normal, axis=1) * np.linalg.norm(ray, axis=1) + 1e-9)
        places = _places(middle)
        within = (places > np.maximum(box[:2], 0)) & (places < np.minimum(box[:2] + box[2], 1))
        grazing, frontal = self.config.grazing, self.config.frontal
        return np.clip((cosine - grazing) / (frontal - grazing), 0, 1) * within.all(1)


def _rotations(angles: Array) -> Array:
    """The rotation of three angles, and those with one of them greater by `_STEP`: [4, 3, 3]."""
    rows = angles + _STEP * np.concatenate([np.zeros((1, 3)), np.eye(3)])
    return rotation_matrix(torch.from_numpy(rows)).numpy()


def _places(posed: Array) -> Array:
    """`project` of modules/face3d/coefficients.py for arrays: [N, 3] dm -> [N, 2]."""
    across, up = FITTING_FOCAL_LENGTH * posed[:, :2].T / (CAMERA_DISTANCE - posed[:, 2])
    return np.stack([0.5 + across, 0.5 - up], axis=1)


def _sample(picture: np.ndarray, places: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture at places [N, 2] in pixels: [N]; 0 outside."""
    return cv2.remap(picture, places[None, :, 0], places[None, :, 1], cv2.INTER_LINEAR)[0]
