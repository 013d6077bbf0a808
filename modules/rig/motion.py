"""How the rig moves: vertices of all frames by one matrix product, lids and lips by the model's share of opening."""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project, unpose_points
from modules.face3d.landmark_sets import CHIN, INNER_LIP_MIDDLES
from modules.geometry.camera import CAMERA_DISTANCE
from modules.geometry.rotation import rotation_matrix
from modules.layers.precision import full_precision
from modules.rig.config import RigConfig
from modules.rig.filters import soft
from modules.rig.landmark_mesh import (
    ALL_POINTS,
    COPIED,
    IRIS_MIDDLES,
    LEFT_EYE_RING,
    LIDS_ABOVE,
    LIDS_BELOW,
    LOWER_LIP,
    MOUTH_RING,
    RIGHT_EYE_RING,
    UPPER_LIP,
    LandmarkModel,
    PhotoMesh,
)
from modules.rig.lids import COUNT, lash_points
from modules.rig.sheet import Sheet

SHUT_LIDS, SHUT_LIPS = 0.015, 0.01  # dm between the model's lids, lips, at which they count as shut
_LEAST_LIDS, _LEAST_LIPS = 0.01, 0.005  # dm: openings of the photo's fit below this say nothing of shares
_FOLDED = 0.8  # of the photo's opening: from here on a lid that closes unfolds
_SHOWN_OPEN = 0.06  # dm between lips from which the photo shows what lies behind them
_WIDEST = 1.7  # times as wide as in the photo eyes open at most
_UNDER_NECK = (0.0, -0.6, -0.8)  # dm in the head's axes, a point about which the head turns
_WINDOW = 25  # frames; how many of 25 a second the head's distance is the median of
_BEHIND_FACE, _BEHIND_LIPS, _BEHIND_LIDS = 1.02, 1.01, 1.02  # times as far from the camera as what lies before them
_BEFORE_LIDS = 0.995
_ANOTHER_SIDE = 0.3  # radians from the photo's pose at which the mirrored side counts in full
_MOUTH = slice(0, len(MOUTH_RING))  # rows of `COPIED`
_JAW = slice(len(MOUTH_RING) // 2, len(MOUTH_RING))
_RIGHT = slice(_MOUTH.stop, _MOUTH.stop + len(RIGHT_EYE_RING))
_LEFT = slice(_RIGHT.stop, _RIGHT.stop + len(LEFT_EYE_RING))


def head_poses(photo: FaceCoefficients, euler: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """The poses of a driver as those of the photo's person, who starts as in the photo; the distance is `_steady`.

    Args:
        photo: the fitted face, one row.
        euler: [T, 3] radians, 25 a second; translation: [T, 3] dm.
    Returns:
        euler [T, 3], translation [T, 3].
    """
    translation = _steady(translation)
    return photo.euler + euler - euler[:1], photo.translation + translation - translation[:1]


def _steady(translation: Tensor) -> Tensor:
    """Translations [T, 3] dm, 25 a second, in which the head does not swell.

    Its distance is the median over half a second to either side, seen at the same place of the picture: when a mouth
    opens, the fit of a face comes nearer.
    """
    distance = CAMERA_DISTANCE - translation[:, 2]
    calm = _running_median(distance)
    return torch.cat([translation[:, :2] * (calm / distance)[:, None], CAMERA_DISTANCE - calm[:, None]], dim=1)


def _running_median(values: Tensor) -> Tensor:
    """Median [T] over `_WINDOW` frames around each of [T], fewer at the ends."""
    half = _WINDOW // 2
    middles = range(len(values))
    return torch.stack([values[max(t - half, 0) : t + half + 1].median() for t in middles])


@dataclass(frozen=True)
class Pose:
    """B frames of the rig.

    Attributes:
        points: [B, V, 3] dm, x right, y up, depth from the camera, as `rasterize` reads them.
        interior: [B, 52, 4], of the rims behind the holes: place in the photo, fractions, and place in the head, dm.
        opened: [B] dm, how much wider the mouth is open than in the photo.
        chin: [B, 2] dm, how far the chin has moved from the neutral face.
        lips: [B, 2] dm, heights of the upper and the lower lip's edge in the head.
        shut: [B, 14] in [0, 1], how far each upper lid has come down from its place in the photo to the lower one.
        sealed: [B, 9] in [0, 1], how far the pairs of points of a mouth that the photo shows open have met.
        turned: [B] in [0, 1], 0 for the head as in the photo, 1 when it has turned so far that another side is seen.
    """

    points: Tensor
    interior: Tensor
    opened: Tensor
    chin: Tensor
    lips: Tensor
    shut: Tensor
    sealed: Tensor
    turned: Tensor


class Skeleton:
    """All vertices of a rig and how they move: the face's 478, the sheet's, the lashes' 28, and 52 copies of the rims
    of the holes.

    With the coefficients of the photo's own fit every vertex is where the photo shows it.
    """

    def __init__(
        self,
        mesh: PhotoMesh,
        sheet: Sheet,
        model: LandmarkModel,
        face: FaceCoefficients,
        shut_lids: Tensor,
        config: RigConfig,
    ) -> None:
        """`shut_lids`: [14] dm between the model's lids when they are shut; the others as in `PhotoRig`."""
        copies = list(COPIED)
        self.face, self.model, self.places, self.config = face, model, mesh.places, config
        lids = list(LIDS_ABOVE)
        self.still = torch.cat(
            [mesh.points, sheet.points, mesh.points[lids], lash_points(mesh.points), mesh.points[copies]]
        )
        self.canonical = unpose_points(self.still[None], face.euler, face.translation)[0]  # in the head's axes
        basis = torch.cat([model.basis, sheet.basis, model.basis[lids * 2 + copies]])
        self.basis = basis.flatten(0, 1).T.contiguous()  # [64, 3 V]
        ones = mesh.points.new_ones
        others = len(self.still) - ALL_POINTS - len(sheet.points)
        self.weight = torch.cat([ones(ALL_POINTS), sheet.weight, ones(others)])[:, None]
        hang = torch.cat([0 * ones(ALL_POINTS), sheet.hang, 0 * ones(others)])[:, None]
        first = len(self.still) - others
        self.roots = slice(first, first + COUNT)  # of the lashes
        self.tips = slice(first + COUNT, first + 2 * COUNT)
        self.lashes = self.canonical[self.tips] - self.canonical[self.roots]
        self.sway = config.sway + 0.5 * hang
        behind = 1 + (_BEHIND_FACE - 1) * sheet.under
        inside = [_BEHIND_LIPS * ones(len(MOUTH_RING)), _BEHIND_LIDS * ones(len(copies) - len(MOUTH_RING))]
        self.push = torch.cat([ones(ALL_POINTS), behind, _BEFORE_LIDS * ones(2 * COUNT), *inside])[:, None]
        upper, lower = self.canonical[list(UPPER_LIP), 1], self.canonical[list(LOWER_LIP), 1]
        self.lids = self.canonical[list(LIDS_ABOVE)] - self.canonical[list(LIDS_BELOW)]  # [14, 3]
        self.lips = upper - lower  # [9]
        self.gap = float(self._gap(self.canonical[None])[0])
        self.mouth_distance = float(CAMERA_DISTANCE - self.still[list(MOUTH_RING), 2].mean())  # dm, in the photo
        self.shut_lids = shut_lids
        of_photo = model.moved(face.expression)
        self.model_lids = (_heights(of_photo, LIDS_ABOVE, LIDS_BELOW) - shut_lids).clamp(min=_LEAST_LIDS)[0]
        self.model_lips = (_heights(of_photo, UPPER_LIP, LOWER_LIP) - SHUT_LIPS).clamp(min=_LEAST_LIPS)[0]

    @full_precision()
    def pose(self, expression: Tensor, euler: Tensor, translation: Tensor, closing: Tensor) -> Pose:
        """Move everything.

        Args:
            expression: [B, 64]; euler: [B, 3] radians; translation: [B, 3] dm.
            closing: [B] in [0, 1], how far the eyes close on top of the expression.
        """
        moved = self.canonical + ((expression - self.face.expression) @ self.basis).unflatten(1, (-1, 3))
        share, sealed = self._open(moved, self.model.moved(expression), closing)
        copies = list(COPIED)
        moved[:, self.roots] = moved[:, list(LIDS_ABOVE)]
        moved[:, self.tips] = moved[:, self.roots] + self.lashes
        moved[:, -len(copies) :] = moved[:, copies]
        opened = self._gap(moved) - self.gap
        interior = torch.cat([self._interior_places(moved, opened), moved[:, -len(copies) :, :2]], dim=-1)
        points = self._skinned(moved, euler, translation)
        depth = CAMERA_DISTANCE - points[..., 2:]
        chin = (moved[:, CHIN] - self.model.neutral[CHIN])[:, :2]
        lips = moved[:, list(INNER_LIP_MIDDLES), 1]
        rotation = rotation_matrix(euler) @ rotation_matrix(self.face.euler).mT
        angle = ((rotation.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).arccos()
        points = torch.cat([points[..., :2], depth], dim=-1) * self.push
        shut = soft((_FOLDED - share) / _FOLDED)
        return Pose(points, interior, opened, chin, lips, shut, sealed, soft(angle / _ANOTHER_SIDE))

    def _gap(self, moved: Tensor) -> Tensor:
        """Opening of the mouth [B] dm."""
        upper, lower = INNER_LIP_MIDDLES
        return moved[:, upper, 1] - moved[:, lower, 1]

    def _open(self, moved: Tensor, model: Tensor, closing: Tensor) -> tuple[Tensor, Tensor]:
        """Set lids and lips of `moved` [B, V, 3] in place, from the model's landmarks [B, 478, 3].

        Lids have the photo's opening times the model's share, so that shut is shut. Lips do so when they close, and
        open by the model's difference; they never cross.

        Returns:
            The lids' opening as a share of the photo's, [B, 14], and `Pose.sealed`.
        """
        upper, lower = list(LIDS_ABOVE), list(LIDS_BELOW)
        share = (_heights(model, LIDS_ABOVE, LIDS_BELOW) - self.shut_lids) / self.model_lids
        share = share.clamp(0, _WIDEST) * (1 - closing[:, None])
        moved[:, upper] = moved[:, lower] + share[..., None] * self.lids
        upper, lower = list(UPPER_LIP), list(LOWER_LIP)
        gap = moved[:, upper, 1] - moved[:, lower, 1]
        model_gap = _heights(model, UPPER_LIP, LOWER_LIP) - SHUT_LIPS
        closes = self.lips * (model_gap / self.model_lips).clamp(0, 1)
        change = torch.where(model_gap < self.model_lips, closes, gap.clamp(min=0)) - gap
        moved[:, upper, 1] += change / 2
        moved[:, lower, 1] -= change / 2
        sealed = soft(0.95 - (gap + change) / self.lips.clamp(min=_LEAST_LIPS)) * soft(self.lips / _SHOWN_OPEN)
        return share, sealed

    def _interior_places(self, moved: Tensor, opened: Tensor) -> Tensor:
        """Where in the photo [B, 52, 2] the rims look: at what is fixed to the skull behind them.

        Eyes turn with the irises. A mouth that is wide open in the photo stretches with the jaw.
        """
        places = self._in_photo(moved[:, -len(COPIED) :])
        for iris, part in zip(IRIS_MIDDLES, (_RIGHT, _LEFT)):
            places[:, part] -= self._in_photo(moved[:, iris : iris + 1]) - self.places[iris]
        stretch = soft(moved.new_tensor((self.gap - 0.12) / 0.15)) * soft(opened / 0.06)
        own = self.places[list(COPIED)][_JAW]
        places[:, _JAW] += stretch[:, None, None] * (own - places[:, _JAW])
        return places

    def _in_photo(self, points: Tensor) -> Tensor:
        """Points [B, N, 3] of the head as the photo's camera sees them, fractions [B, N, 2]."""
        return project(pose_points(points, self.face.euler, self.face.translation))

    def _skinned(self, moved: Tensor, euler: Tensor, translation: Tensor) -> Tensor:
        """Posed points [B, V, 3]: the head's in its pose, the shoulders' following a point under the neck."""
        neck = moved.new_tensor(_UNDER_NECK).expand(1, 1, 3)
        start = pose_points(neck, self.face.euler, self.face.translation)
        way = pose_points(neck.expand(len(euler), 1, 3), euler, translation) - start  # [B, 1, 3]
        head = pose_points(moved, euler, translation)
        return self.weight * head + (1 - self.weight) * (self.still + self.sway * way)


def _heights(points: Tensor, upper: tuple[int, ...], lower: tuple[int, ...]) -> Tensor:
    """Distances upwards [B, N] of landmarks [B, 478, 3]."""
    return points[:, list(upper), 1] - points[:, list(lower), 1]
