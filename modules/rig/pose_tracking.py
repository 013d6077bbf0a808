"""Head poses of a clip by its pictures: skin that both frames show says more of a nod than landmarks do.

The landmarks of a network give way when a mouth opens or brows rise, and a fit takes that for a turn of the head by up
to four degrees. Here every pose is corrected until the skin of the first frame lies on that of its own: Lucas-Kanade
over the triangles of the face's mesh, whose expression stays that of the fit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from modules.analysis.crop import Box, crop_picture
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.camera import CAMERA_DISTANCE, FITTING_FOCAL_LENGTH
from modules.geometry.rotation import rotation_matrix
from modules.rig.landmark_mesh import LandmarkModel, face_triangles

Array = NDArray[np.float64]
_STEP = 1e-3  # radians over which the derivative of a rotation is taken
_SETTLED = 1e-4  # radians, the step at which a pose is left
_LEAST_GAIN = 0.3  # contrast of the first frame by that of another
_INLIERS = 1.5  # deviations up to which a difference counts in full


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How poses are corrected. Lengths of pictures are pixels of the square round the face, `side` of them wide."""

    side: int = 128
    room: float = 1.3  # width of the square by that of the face
    blur: float = 1.0  # deviation of the filter that takes away noise and pores
    stillness: float = 0.3  # dm by which expressions move a point that counts half
    turn: float = 0.035  # radians by which landmarks are expected to be wrong; less keeps nearer to them
    shift: float = 0.05  # dm, across the picture
    distance: float = 0.1  # dm, along it
    evidence: float = 100.0  # independent points among those compared
    grazing: float = 0.2  # cosine to the ray at which a point of either frame is not seen
    frontal: float = 0.5  # cosine from which it counts in full
    least_seen: float = 0.3  # part of the points that both frames must show
    iterations: int = 6


def track_poses(
    model: MorphableModel, face: FaceCoefficients, frames: Iterable[np.ndarray], config: TrackingConfig | None = None
) -> FaceCoefficients:
    """Correct the poses of a fitted clip by its pictures; holds one frame at a time.

    Args:
        model: the fitted face model.
        face: its coefficients, T rows; identity one row.
        frames: T pictures uint8 [S, S, 3], those that the landmarks of the fit are fractions of; S may change.
    Returns:
        The same with other poses; the first row is as it was, as is every row whose face shows too little of what
        the first frame shows.
    Raises:
        ValueError: there are fewer or more frames than rows.
    """
    tracker = _Tracker(model, face, config or TrackingConfig())
    poses = [tracker.pose(row, frame) for row, frame in zip(range(len(face)), frames, strict=True)]
    rows = torch.from_numpy(np.stack(poses)).to(face.euler)
    return face.replace(euler=rows[:, :3], translation=rows[:, 3:])


class _Tracker:
    def __init__(self, model: MorphableModel, face: FaceCoefficients, config: TrackingConfig) -> None:
        self.config = config
        landmarks = LandmarkModel.of(model, face.identity)
        self._landmarks, self._expression = landmarks, face.expression
        self._poses = torch.cat([face.euler, face.translation], dim=1).double().cpu().numpy()
        self._corners = face_triangles().numpy()
        moved = landmarks.basis.square().sum(1).mean(1).sqrt().cpu().numpy()[self._corners].mean(1)
        neutral = landmarks.neutral.double().cpu().numpy()[self._corners]
        normals = _normals(neutral)
        area = np.linalg.norm(normals, axis=1)
        self._outwards = -np.sign(np.median(normals[:, 2]))  # whichever way round the corners are given
        x, y, _ = neutral.mean(1).T
        self._light = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)  # how light may change, [N, 6]
        self._still = area / area.mean() / (1 + (moved / config.stillness) ** 2)  # [N]
        self._first: NDArray[np.float32] = np.zeros(0, np.float32)  # the first frame at the points, [N]
        self._seen_first: Array = np.zeros(0)

    def pose(self, row: int, frame: np.ndarray) -> Array:
        """Angles and translation [6] of a row, from its frame."""
        pose = self._poses[row]
        vertices = self._landmarks.moved(self._expression[row : row + 1])[0].double().cpu().numpy()
        posed = vertices @ _rotations(pose[:3])[0].T + pose[3:]
        seen, points = self._facing(posed), vertices[self._corners].mean(1)
        picture, box = self._square(frame, _places(posed))
        if row == 0:
            self._first, self._seen_first = _sample(picture, self._inside(points, pose, box)), seen
            return pose
        weight = self._still * self._seen_first * seen
        if weight.sum() < self.config.least_seen * self._still.sum():
            return pose
        return self._corrected(pose, points, weight, picture, box)

    def _corrected(self, start: Array, points: Array, weight: Array, picture: np.ndarray, box: Array) -> Array:
        """The pose at which the points look as in the first frame, in another light, by Gauss-Newton steps."""
        config, pose = self.config, start.copy()
        prior = np.array([config.turn] * 3 + [config.shift] * 2 + [config.distance]) ** -2.0
        prior = np.concatenate([prior, np.zeros(self._light.shape[1] + 1)])
        across, down = (cv2.Sobel(picture, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        for _ in range(config.iterations):
            places = self._inside(points, pose, box)
            seen = _sample(picture, places)
            lit = np.column_stack([seen, self._light])  # contrast and light are linear: [N, 7]
            root = np.sqrt(weight)[:, None]
            looks = np.linalg.lstsq(lit * root, self._first * root[:, 0], rcond=None)[0]
            error = self._first - lit @ looks
            deviation = 1.4826 * np.median(np.abs(error[weight > 0])) + 1e-3
            trust = weight / np.maximum(1, np.abs(error) / (_INLIERS * deviation))
            trust *= config.evidence / len(points) / deviation**2
            slopes = np.stack([_sample(across, places), _sample(down, places)], axis=1)  # [N, 2]
            change = max(looks[0], _LEAST_GAIN) * np.einsum("nc,ncp->np", slopes, self._motion(points, pose, box))
            change = np.column_stack([change, lit])  # [N, 6 + 7]
            matrix = (change * trust[:, None]).T @ change + np.diag(prior + 1e-9)
            pull = np.zeros(len(prior))
            pull[:6] = prior[:6] * (pose - start)
            step = np.linalg.solve(matrix, change.T @ (trust * error) - pull)[:6]
            pose = pose + step
            if np.abs(step[:3]).max() < _SETTLED:
                break
        return pose

    def _square(self, frame: np.ndarray, places: Array) -> tuple[NDArray[np.float32], Array]:
        """A frame [S, S, 3] round its face, gray, without noise, [side, side], and the square in fractions: left, top,
        width."""
        size, side = len(frame), self.config.side
        low, high = places.min(0) * size, places.max(0) * size
        half = self.config.room * float((high - low).max()) / 2
        left, top = (int(value) for value in np.rint((low + high) / 2 - half))
        width = max(int(round(2 * half)), 2)
        gray = crop_picture(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), Box(left, top, left + width, top + width), side)
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), self.config.blur)
        return gray, np.array([left, top, width]) / size

    def _inside(self, points: Array, pose: Array, box: Array) -> NDArray[np.float32]:
        """Where points [N, 3] of a pose lie in a square: [N, 2] pixels."""
        places = _places(points @ _rotations(pose[:3])[0].T + pose[3:])
        return ((places - box[:2]) / box[2] * self.config.side - 0.5).astype(np.float32)

    def _motion(self, points: Array, pose: Array, box: Array) -> Array:
        """How `_inside` changes with the pose: [N, 2, 6]."""
        rotation, *turned = _rotations(pose[:3])
        posed = points @ rotation.T + pose[3:]
        change = np.zeros((len(points), 3, 6))
        for axis, other in enumerate(turned):
            change[:, :, axis] = points @ (other - rotation).T / _STEP
        change[:, :, 3:] = np.eye(3)
        depth = (CAMERA_DISTANCE - posed[:, 2])[:, None]
        towards = posed[:, :2, None] / depth[..., None] * change[:, 2:]
        scale = FITTING_FOCAL_LENGTH / depth * self.config.side / box[2]
        return np.array([[1.0], [-1.0]]) * scale[..., None] * (change[:, :2] + towards)

    def _facing(self, posed: Array) -> Array:
        """How well the triangles of a posed face are seen, [N] in [0, 1]."""
        corners = posed[self._corners]
        normal, ray = _normals(corners), corners.mean(1) - (0, 0, CAMERA_DISTANCE)
        cosine = (normal * ray).sum(1) / (np.linalg.norm(normal, axis=1) * np.linalg.norm(ray, axis=1) + 1e-9)
        return np.clip(
            (self._outwards * cosine - self.config.grazing) / (self.config.frontal - self.config.grazing), 0, 1
        )


def _normals(corners: Array) -> Array:
    """Normals of triangles [N, 3, 3], twice as long as their area: [N, 3]."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


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
