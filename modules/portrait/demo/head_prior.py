"""The demo's head prior: an ellipsoid in place of the head, on which photo and PNCC are projected. Not in the paper.

`project_photo` resamples the photo to the XY plane: each pixel takes the photo's colour at the first point where its
ray meets the ellipsoid. The first channels of P_cano start as that image and that surface, motion planes cover the
cube of the face alone, and the XY plane moves with the skin that two PNCCs have in common. The networks learn what is
missing, so minutes of training are enough. A model that was trained with the prior has it in its config.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import FITTING_FOCAL_LENGTH, Camera, pose_camera
from modules.layers.precision import full_precision
from modules.layers.resample import pixel_centres, resize
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.rendering.planes import PLANE_AXES, Decoder
from modules.rendering.renderer import RendererConfig

PRIOR_CHANNELS = 4  # channels of P_cano with first values: three of colour, one of shape
_OVERSAMPLING = 2  # a side, against aliasing
_CLAMP = 0.01  # colours are clamped to [0.01, 0.99] before the logit
_COLOUR_SCALE = 3.0  # of the logits: features are means over three planes, and only one holds them
_SHAPE_SCALE = 6.0  # of the shape: 1 in the middle of the head, 0 at its surface
_SHARPNESS = 100.0  # raw density of the first decoder, of a shape of 1
_INSIDE = 0.08  # colour of an open mouth's inside, in [0, 1]
_SEARCH_STEPS = 8  # of the search for the same point of the skin in two PNCCs
_SEARCH_SHARE = 0.6  # of each step: at the outline of a face PNCC is steeper than its line


@dataclass(frozen=True, kw_only=True)
class HeadPriorConfig:
    """The prior; world units, the defaults fit adult heads in a cube of side 1."""

    head_centre: tuple[float, float, float] = (0.0, 0.0, -0.15)  # of the ellipsoid
    head_radii: tuple[float, float, float] = (0.30, 0.40, 0.42)
    face_centre: tuple[float, float, float] = (0.0, -0.0703125, 0.25)  # of the cube of the motion planes
    face_share: float = 0.5  # its side over that of the whole cube

    torso_photo: bool = True  # the torso starts as that of the photo

    def __post_init__(self) -> None:
        if min(self.head_radii) <= 0 or not 0 < self.face_share <= 1:
            raise ValueError(f"head_radii {self.head_radii} must be positive, face_share {self.face_share} in 0..1")

    def check(self, renderer: RendererConfig, adapter: MotionAdapterConfig | None) -> None:
        """Raises ValueError: the other parts of a model cannot have this prior."""
        if renderer.plane_depth > 1:
            raise ValueError(f"head_prior with a plane_depth of {renderer.plane_depth}; it must be 1")
        if renderer.plane_channels < PRIOR_CHANNELS or renderer.hidden_channels < 2 * PRIOR_CHANNELS:
            raise ValueError(
                f"head_prior with {renderer.plane_channels} plane_channels and "
                f"{renderer.hidden_channels} hidden_channels; use at least {PRIOR_CHANNELS} and "
                f"{2 * PRIOR_CHANNELS}"
            )
        if adapter is not None:
            self.motion_size(adapter.input_size // 2)

    def motion_size(self, planes: int) -> int:
        """Pixels a side of whole planes that hold motion planes of `planes` pixels. Raises ValueError: no integer."""
        size = round(planes / self.face_share)
        if abs(size * self.face_share - planes) > 1e-6:
            raise ValueError(f"face_share {self.face_share} does not divide motion planes of {planes} pixels")
        return size


def project_photo(photo: Tensor, camera: Camera, box_size: float, size: int, config: HeadPriorConfig) -> Tensor:
    """Project a photo on the ellipsoid and resample it to the XY plane.

    Args:
        photo: [B, 3, S, S] in [-1, 1], -1 where no head is.
        camera: of the photos.
        box_size: side of the cube of the planes, world units.
        size: pixels a side of the result.
    Returns:
        [B, 3, size, size] in image orientation (first row: the top), -1 outside the photo.
    """
    return _look_up(photo, camera, _surface((0.0, 0.0), box_size, size * _OVERSAMPLING, config))


def project_pncc(pncc: Tensor, box_size: float, size: int, config: HeadPriorConfig) -> Tensor:
    """PNCCs [B, 3, S, S] (no pose) -> the same over the face's part of the XY plane, [B, 3, size, size]."""
    return _face_square(pncc, box_size, size, config)


def embed_motion_planes(planes: Tensor, box_size: float, config: HeadPriorConfig, outside: float = 0.0) -> Tensor:
    """Planes of the face's cube [B, 3, C, H, H] -> planes of the whole cube, `outside` elsewhere."""
    small, size = planes.shape[-1], config.motion_size(planes.shape[-1])
    embedded = planes.new_full((*planes.shape[:3], size, size), outside)
    for index in range(3):
        left, low = _corner(index, size, box_size, config)
        embedded[:, index, :, low : low + small, left : left + small] = planes[:, index]
    return embedded


def add_initial_planes(planes: Tensor, photo: Tensor, box_size: float, config: HeadPriorConfig) -> Tensor:
    """Add the first values of a head to P_cano: the photo's colours to the XY plane, the ellipsoid to XY and XZ.

    A decoder after `init_decoder_for_prior` renders them as the head of the photo, before any training.

    Args:
        planes: [B, 3, C, H, H], C at least `PRIOR_CHANNELS`.
        photo: [B, 3, S, S] from `project_photo`.
        box_size: side of the cube of the planes, world units.
    Returns:
        As `planes`, float32.
    """
    size = planes.shape[-1]
    colours = resize(photo.float(), size).flip(-2)
    steps = ((torch.arange(size, device=planes.device) + 0.5) / size - 0.5) * box_size
    x, y, z = (((steps - centre) / radius) ** 2 for centre, radius in zip(config.head_centre, config.head_radii))
    initial = torch.zeros(len(planes), 3, PRIOR_CHANNELS, size, size, device=planes.device)
    initial[:, 0, :3] = _COLOUR_SCALE * ((colours + 1) / 2).logit(eps=_CLAMP)
    initial[:, 0, 3] = _SHAPE_SCALE * (1 - x - y[:, None])  # together 1 - x^2 - y^2 - z^2
    initial[:, 1, 3] = _SHAPE_SCALE * -z[:, None]
    return planes + F.pad(initial, (0, 0, 0, 0, 0, planes.shape[2] - PRIOR_CHANNELS))


def init_decoder_for_prior(decoder: Decoder) -> None:
    """Initialise the decoder so that it reads density and colour from the prior channels."""
    for channel in range(3):
        decoder.pass_through(channel, 1 + channel, 3 / _COLOUR_SCALE)
    decoder.pass_through(3, 0, 3 * _SHARPNESS / _SHAPE_SCALE)


def warp_by_pncc(planes: Tensor, source: Tensor, driving: Tensor, box_size: float, config: HeadPriorConfig) -> Tensor:
    """Warp the XY plane by the correspondence of two PNCCs, from one expression to another.

    Where the skin opens the colours are dark, as inside a mouth.

    Args:
        planes: [B or 1, 3, C, H, H] with the source's expression.
        source, driving: PNCCs [B, 3, S, S] in [-1, 1], without pose.
        box_size: side of the cube of the planes, world units.
    Returns:
        [B, 3, C, H, H].
    """
    batch, size = len(driving), round(planes.shape[-1] * config.face_share)
    rows, columns = (slice(start, start + size) for start in _corner(0, planes.shape[-1], box_size, config)[::-1])
    positions, opened = pncc_correspondence(source, driving, box_size, size, config)
    face = planes[:, 0, :, rows, columns].flip(-2).expand(batch, -1, -1, -1)
    moved = F.grid_sample(face.float(), positions, mode="bilinear", padding_mode="border", align_corners=False)
    inside = torch.full_like(moved[:, :3], _COLOUR_SCALE * math.log(_INSIDE / (1 - _INSIDE)))
    moved = torch.cat([torch.lerp(moved[:, :3], inside, opened), moved[:, 3:]], dim=1)
    warped = planes.expand(batch, -1, -1, -1, -1).clone()
    warped[:, 0, :, rows, columns] = moved.flip(-2).to(planes.dtype)
    return warped


@torch.no_grad()
def pncc_correspondence(
    source: Tensor, driving: Tensor, box_size: float, size: int, config: HeadPriorConfig
) -> tuple[Tensor, Tensor]:
    """Correspondence of two PNCCs: for each pixel of the face's square, where the source has the driving PNCC's skin.

    The PNCC of the source is close to a linear function of the position; fixed-point steps correct the rest.

    Args:
        source, driving, box_size: as in `warp_by_pncc`.
        size: n, pixels a side.
    Returns:
        [B, n, n, 2] (x, y) in [-1, 1] over the square, first row at the top; pixels without skin keep their own
        position; and [B, 1, n, n] in [0, 1], where the source has skin and the driving PNCC has none.
    """
    (of_source, known), (of_driving, skin) = (_skin(pncc, box_size, size, config) for pncc in (source, driving))
    own = pixel_centres(size, source.device)  # [2, n, n]
    total = known.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (known * values).sum(dim=(-2, -1), keepdim=True) / total

    middle, level = mean(own), mean(of_source)
    slope = mean((own - middle) * of_source) / mean((own - middle) ** 2).clamp(min=1e-6)
    slope = torch.where(slope.abs() < 1e-3, torch.ones_like(slope), slope)  # no face in the PNCC
    line = level + slope * (own - middle)
    rest = torch.cat([known * (of_source - line), known], dim=1)
    straight = middle + (of_driving - level) / slope
    positions = own.expand_as(straight)
    for _ in range(_SEARCH_STEPS):
        sampled = F.grid_sample(rest, positions.movedim(1, -1), mode="bilinear", align_corners=False)
        better = straight - sampled[:, :2] / sampled[:, 2:].clamp(min=1e-3) / slope
        positions = positions + _SEARCH_SHARE * (better - positions)
    return torch.where(skin > 0.5, positions, own).movedim(1, -1), (known - skin).clamp(min=0)


def _skin(pncc: Tensor, box_size: float, size: int, config: HeadPriorConfig) -> tuple[Tensor, Tensor]:
    """PNCCs -> x and y on the mean face [B, 2, n, n] over the face's square, and how much of each pixel is skin
    [B, 1, n, n]."""
    seen = (pncc > -1).any(dim=1, keepdim=True)
    square = _face_square(torch.cat([pncc[:, :2].float(), 2 * seen.float() - 1], dim=1), box_size, size, config) + 1
    share = square[:, 2:] / 2
    return square[:, :2] / share.clamp(min=1e-3) - 1, share


def _face_square(images: Tensor, box_size: float, size: int, config: HeadPriorConfig) -> Tensor:
    """Images [B, C, S, S] of a face without pose -> the same over the face's part of the XY plane."""
    still = torch.zeros(1, 3, device=images.device)
    camera = pose_camera(still, still, FITTING_FOCAL_LENGTH)
    centre, side = config.face_centre[:2], box_size * config.face_share
    return _look_up(images, camera, _surface(centre, side, size * _OVERSAMPLING, config))


def _corner(plane: int, size: int, box_size: float, config: HeadPriorConfig) -> tuple[int, int]:
    """First column and row of the face's cube in plane number `plane` of `size` pixels."""
    width, height, _ = PLANE_AXES[plane]
    column, row = (
        round((config.face_centre[axis] / box_size + 0.5 - config.face_share / 2) * size) for axis in (width, height)
    )
    return column, row


def _surface(centre: tuple[float, float], side: float, size: int, config: HeadPriorConfig) -> Tensor:
    """Points of the head's surface in front of the pixels of a square of the XY plane, [size, size, 3].

    Beside the head they are those of the plane through its centre.
    """
    steps = ((torch.arange(size) + 0.5) / size - 0.5) * side
    y, x = torch.meshgrid(centre[1] - steps, centre[0] + steps, indexing="ij")
    (x0, y0, z0), (rx, ry, rz) = config.head_centre, config.head_radii
    height = (1 - ((x - x0) / rx) ** 2 - ((y - y0) / ry) ** 2).clamp(min=0).sqrt()
    return torch.stack([x, y, z0 + rz * height], dim=-1)


def _look_up(images: Tensor, camera: Camera, points: Tensor) -> Tensor:
    """Images [B, C, S, S] sampled where a camera sees world points [n, n, 3] -> means of 2x2, [B, C, n/2, n/2]."""
    with full_precision():
        to_camera = torch.linalg.inv_ex(camera.camera_to_world.float()).inverse  # without a check, for which GPUs wait
        seen = points.to(to_camera) @ to_camera[:, None, :3, :3].mT + to_camera[:, None, None, :3, 3]  # [B, n, n, 3]
        seen = seen @ camera.intrinsics[:, None].to(seen).mT
        positions = (2 * seen[..., :2] / seen[..., 2:].clamp(min=1e-6) - 1).expand(images.shape[0], -1, -1, -1)
        inside = F.grid_sample(
            images.float() + 1, positions, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        return F.avg_pool2d(inside - 1, _OVERSAMPLING)
