"""Rectification: what a picture shows of a posed head, redrawn where the planes have it.

Each pixel of the XY plane takes the colour that the picture shows at the point of an average head's surface before it,
and motion planes cover the face's cube alone. The first channels of P_cano start as that picture and that surface, and
its XY plane moves with the skin that two PNCC pictures have in common. So networks learn what is missing to that, and
minutes of training are enough where the released model needed days. Not in the paper; a model trained with it has it
in its config.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import FITTING_FOCAL_LENGTH, Camera, pose_camera
from modules.layers.resample import pixel_centres, resize
from modules.rendering.planes import PLANE_AXES, Decoder

LAID = 4                    # channels of P_cano with first values: three of colour, one of shape
_OVERSAMPLING = 2           # a side, against aliasing
_NEAREST = 0.01             # to 0 or 1 of a colour whose logit is laid
_COLOUR_SCALE = 3.0         # of the laid logits: features are means over three planes, and only one has them
_SHAPE_SCALE = 6.0          # of the laid shape: 1 in the middle of the head, 0 at its surface
_SHARPNESS = 100.0          # raw density of the first decoder, of a shape of 1
_INSIDE = 0.08              # colour of an open mouth's inside, in [0, 1]
_SEARCH_STEPS = 8           # for the same point of the skin in two PNCC pictures
_SEARCH_SHARE = 0.6         # of each step: at the outline of a face PNCC is steeper than its line


@dataclass(frozen=True, kw_only=True)
class RectificationConfig:
    """World units; the defaults fit adult heads in a cube of side 1."""

    head_centre: tuple[float, float, float] = (0.0, 0.0, -0.15)        # of the ellipsoid that stands for the head
    head_radii: tuple[float, float, float] = (0.30, 0.40, 0.42)
    face_centre: tuple[float, float, float] = (0.0, -0.0703125, 0.25)  # of the cube of the motion planes
    face_share: float = 0.5                                            # its side over that of the whole cube

    def __post_init__(self) -> None:
        if min(self.head_radii) <= 0 or not 0 < self.face_share <= 1:
            raise ValueError(f"head_radii {self.head_radii} must be positive, face_share {self.face_share} in 0..1")

    def motion_size(self, planes: int) -> int:
        """Pixels a side of whole planes that hold motion planes of `planes` pixels. Raises ValueError: no integer."""
        size = round(planes / self.face_share)
        if abs(size * self.face_share - planes) > 1e-6:
            raise ValueError(f"face_share {self.face_share} does not divide motion planes of {planes} pixels")
        return size


def rectify_photo(picture: Tensor, camera: Camera, box_size: float, size: int, config: RectificationConfig) -> Tensor:
    """A head seen by `camera` -> the same over the whole XY plane.

    Args:
        picture: [B, 3, S, S] in [-1, 1], -1 where no head is.
        camera: of the pictures.
        box_size: side of the cube of the planes, world units.
        size: pixels a side of the result.
    Returns:
        [B, 3, size, size] in picture orientation (first row: the top), -1 outside the picture.
    """
    return _look_up(picture, camera, _surface((0.0, 0.0), box_size, size * _OVERSAMPLING, config))


def rectify_pncc(pncc: Tensor, box_size: float, size: int, config: RectificationConfig) -> Tensor:
    """PNCC pictures [B, 3, S, S] (no pose) -> the same over the face's part of the XY plane, [B, 3, size, size]."""
    return _face_square(pncc, box_size, size, config)


def place_motion(planes: Tensor, box_size: float, config: RectificationConfig, outside: float = 0.0) -> Tensor:
    """Planes of the face's cube [B, 3, C, H, H] -> planes of the whole cube, `outside` elsewhere."""
    small, size = planes.shape[-1], config.motion_size(planes.shape[-1])
    placed = planes.new_full((*planes.shape[:3], size, size), outside)
    for index in range(3):
        left, low = _corner(index, size, box_size, config)
        placed[:, index, :, low:low + small, left:left + small] = planes[:, index]
    return placed


def lay_head(planes: Tensor, photo: Tensor, box_size: float, config: RectificationConfig) -> Tensor:
    """Add the first values of a head to P_cano: the photo's colours to the XY plane, the ellipsoid to all directions.

    A decoder that starts with `read_laid` renders them as the head that the photo shows, before any training.

    Args:
        planes: [B, 3, C, H, H], C at least `LAID`.
        photo: [B, 3, S, S] from `rectify_photo`.
        box_size: side of the cube of the planes, world units.
    Returns:
        As `planes`, float32.
    """
    size = planes.shape[-1]
    colours = resize(photo.float(), size).flip(-2)
    steps = ((torch.arange(size, device=planes.device) + 0.5) / size - 0.5) * box_size
    x, y, z = (((steps - centre) / radius) ** 2 for centre, radius in zip(config.head_centre, config.head_radii))
    laid = torch.zeros(len(planes), 3, LAID, size, size, device=planes.device)
    laid[:, 0, :3] = _COLOUR_SCALE * ((colours + 1) / 2).logit(eps=_NEAREST)
    laid[:, 0, 3] = _SHAPE_SCALE * (1 - x - y[:, None])      # together 1 - x^2 - y^2 - z^2
    laid[:, 1, 3] = _SHAPE_SCALE * -z[:, None]
    return planes + F.pad(laid, (0, 0, 0, 0, 0, planes.shape[2] - LAID))


def read_laid(decoder: Decoder) -> None:
    """Give a decoder first weights that make density and colours of what `lay_head` has laid."""
    for channel in range(3):
        decoder.pass_through(channel, 1 + channel, 3 / _COLOUR_SCALE)
    decoder.pass_through(3, 0, 3 * _SHARPNESS / _SHAPE_SCALE)


def carry_face(planes: Tensor, source: Tensor, driving: Tensor, box_size: float, config: RectificationConfig) -> Tensor:
    """Move what the XY plane holds along with the skin of the face, from one expression to another.

    Where the skin opens the colours are dark, as inside a mouth.

    Args:
        planes: [B or 1, 3, C, H, H] with the source's expression.
        source, driving: PNCC pictures [B, 3, S, S] in [-1, 1], without pose.
        box_size: side of the cube of the planes, world units.
    Returns:
        [B, 3, C, H, H].
    """
    batch, size = len(driving), round(planes.shape[-1] * config.face_share)
    rows, columns = (slice(start, start + size) for start in _corner(0, planes.shape[-1], box_size, config)[::-1])
    places, opened = skin_places(source, driving, box_size, size, config)
    face = planes[:, 0, :, rows, columns].flip(-2).expand(batch, -1, -1, -1)
    moved = F.grid_sample(face.float(), places, mode="bilinear", padding_mode="border", align_corners=False)
    inside = torch.full_like(moved[:, :3], _COLOUR_SCALE * math.log(_INSIDE / (1 - _INSIDE)))
    moved = torch.cat([torch.lerp(moved[:, :3], inside, opened), moved[:, 3:]], dim=1)
    carried = planes.expand(batch, -1, -1, -1, -1).clone()
    carried[:, 0, :, rows, columns] = moved.flip(-2).to(planes.dtype)
    return carried


@torch.no_grad()
def skin_places(source: Tensor, driving: Tensor, box_size: float, size: int,
                config: RectificationConfig) -> tuple[Tensor, Tensor]:
    """Where the source has the skin that the driving PNCC has in each pixel of the face's square.

    The PNCC of the source is close to a linear function of the place, so the rest of it is searched by fixed-point
    steps.

    Args:
        source, driving, box_size: as in `carry_face`.
        size: n, pixels a side.
    Returns:
        [B, n, n, 2] (x, y) in [-1, 1] over the square, first row at the top; pixels without skin keep their own place;
        and [B, 1, n, n] in [0, 1], where the source has skin and the driving picture has none.
    """
    (of_source, known), (of_driving, skin) = (_skin(pncc, box_size, size, config) for pncc in (source, driving))
    own = pixel_centres(size, source.device)                                           # [2, n, n]
    total = known.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (known * values).sum(dim=(-2, -1), keepdim=True) / total

    middle, level = mean(own), mean(of_source)
    slope = mean((own - middle) * of_source) / mean((own - middle) ** 2).clamp(min=1e-6)
    slope = torch.where(slope.abs() < 1e-3, torch.ones_like(slope), slope)            # no face in the picture
    line = level + slope * (own - middle)
    rest = torch.cat([known * (of_source - line), known], dim=1)
    straight = middle + (of_driving - level) / slope
    places = own.expand_as(straight)
    for _ in range(_SEARCH_STEPS):
        found = F.grid_sample(rest, places.movedim(1, -1), mode="bilinear", align_corners=False)
        better = straight - found[:, :2] / found[:, 2:].clamp(min=1e-3) / slope
        places = places + _SEARCH_SHARE * (better - places)
    return torch.where(skin > 0.5, places, own).movedim(1, -1), (known - skin).clamp(min=0)


def _skin(pncc: Tensor, box_size: float, size: int, config: RectificationConfig) -> tuple[Tensor, Tensor]:
    """PNCC pictures -> x and y on the mean face [B, 2, n, n] over the face's square, and how much of each pixel is skin
    [B, 1, n, n]."""
    seen = (pncc > -1).any(dim=1, keepdim=True)
    found = _face_square(torch.cat([pncc[:, :2].float(), 2 * seen.float() - 1], dim=1), box_size, size, config) + 1
    share = found[:, 2:] / 2
    return found[:, :2] / share.clamp(min=1e-3) - 1, share


def _face_square(pictures: Tensor, box_size: float, size: int, config: RectificationConfig) -> Tensor:
    """Pictures [B, C, S, S] of a face without pose -> the same over the face's part of the XY plane."""
    still = torch.zeros(1, 3, device=pictures.device)
    camera = pose_camera(still, still, FITTING_FOCAL_LENGTH)
    centre, side = config.face_centre[:2], box_size * config.face_share
    return _look_up(pictures, camera, _surface(centre, side, size * _OVERSAMPLING, config))


def _corner(plane: int, size: int, box_size: float, config: RectificationConfig) -> tuple[int, int]:
    """First column and row of the face's cube in plane number `plane` of `size` pixels."""
    width, height, _ = PLANE_AXES[plane]
    return tuple(round((config.face_centre[axis] / box_size + 0.5 - config.face_share / 2) * size)
                 for axis in (width, height))


def _surface(centre: tuple[float, float], side: float, size: int, config: RectificationConfig) -> Tensor:
    """Points of the head's surface before the pixels of a square of the XY plane: [size, size, 3]; beside the head,
    those of the plane through its centre."""
    steps = ((torch.arange(size) + 0.5) / size - 0.5) * side
    y, x = torch.meshgrid(centre[1] - steps, centre[0] + steps, indexing="ij")
    (x0, y0, z0), (rx, ry, rz) = config.head_centre, config.head_radii
    height = (1 - ((x - x0) / rx) ** 2 - ((y - y0) / ry) ** 2).clamp(min=0).sqrt()
    return torch.stack([x, y, z0 + rz * height], dim=-1)


def _look_up(picture: Tensor, camera: Camera, points: Tensor) -> Tensor:
    """What pictures [B, C, S, S] show at world points [n, n, 3]: [B, C, n / 2, n / 2] (see `_OVERSAMPLING`)."""
    with torch.autocast(picture.device.type, enabled=False):
        to_camera = torch.linalg.inv(camera.camera_to_world.float())
        seen = points.to(to_camera) @ to_camera[:, None, :3, :3].mT + to_camera[:, None, None, :3, 3]    # [B, n, n, 3]
        seen = seen @ camera.intrinsics[:, None].to(seen).mT
        places = (2 * seen[..., :2] / seen[..., 2:].clamp(min=1e-6) - 1).expand(picture.shape[0], -1, -1, -1)
        found = F.grid_sample(picture.float() + 1, places, mode="bilinear", padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(found - 1, _OVERSAMPLING)
