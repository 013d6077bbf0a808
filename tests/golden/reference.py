"""What the original has and nothing here needs, for the comparison of numbers alone."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.analysis.crop import FACE_AREA, Box
from modules.face3d.fitting import _second_difference
from modules.face3d.landmark_sets import OUTER_LIPS_68
from modules.geometry.camera import Camera, look_at_camera, normalised_intrinsics
from modules.losses.perceptual import LAYER_WEIGHTS, PerceptualLoss
from modules.losses.speech import masked_mean
from modules.system.errors import UserError

OFFICIAL_SIZE = 512
WHITE = 255.0  # the files of face models hold colours of 0..255
AMBIENT = 0.8  # added to the constant harmonic of each colour
HARMONICS = 9
COLOURS = np.array([(255, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 0, 0), (0, 255, 0)], np.uint8)


def official_crop_box(landmarks: np.ndarray, face_area: float = FACE_AREA) -> Box | None:
    """The official box in the photo squashed to 512 x 512; None if the face is large enough (docs/spec/data_gen.md#1).

    Args:
        landmarks: [478, 2] in pixels of the squashed photo.
        face_area: share of the picture above which it is left as it is.
    Raises:
        UserError: the face is too near to the border for a box.
    """
    low, high = landmarks.min(0), landmarks.max(0)
    if np.prod(high - low) / OFFICIAL_SIZE**2 >= face_area:
        return None
    points = np.trunc(landmarks)
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2
    side = np.floor(np.sqrt(np.prod(high - low) / face_area))
    beyond = max(0.0, 2 * float(np.max([side / 2 - centre, centre + side / 2 - OFFICIAL_SIZE])))
    side = np.floor(side - beyond)
    if side < 1:
        raise UserError("the face touches the border of the photo; use one with space around the face")
    left, top, right, bottom = (int(v) for v in (*(centre - side / 2), *(centre + side / 2)))
    return Box(left, top, right, bottom)


def official_crop(picture: np.ndarray, box: Box | None) -> np.ndarray:
    """The official crop: squashed, cut, enlarged, all bilinear; uint8 [H, W, 3] -> [512, 512, 3]."""
    size = (OFFICIAL_SIZE, OFFICIAL_SIZE)
    squashed = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    if box is None:
        return squashed
    part = np.ascontiguousarray(squashed[box.top : box.bottom, box.left : box.right])
    return cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)


def lip_box(points: np.ndarray, size: tuple[int, int]) -> Box:
    """Square around the lips, inside the picture (docs/spec/data_gen.md#7).

    Args:
        points: [68, 2] pixels.
        size: (W, H) of the picture.
    """
    lips = points[OUTER_LIPS_68]
    low, high = lips.min(0), lips.max(0)
    centre = ((low + high) / 2).astype(np.int64)
    half = int(max(np.trunc((high - centre) * 1.2)))
    start = np.maximum(centre - half, 0)
    start = np.maximum(start - np.maximum(start + 2 * half - np.array(size), 0), 0)
    left, top = (int(v) for v in start)
    return Box(left, top, left + 2 * half, top + 2 * half)


def class_colours(classes: np.ndarray) -> np.ndarray:
    """Class map [H, W] -> its colour code [H, W, 3] uint8 RGB, as the original stores it."""
    return COLOURS[classes]


def fov_intrinsics(degrees: Tensor) -> Tensor:
    """Fields of view [B] -> intrinsics [B, 3, 3], with EG3D's rounded constants (docs/spec/sr_torso_eg3d.md#10-2)."""
    return normalised_intrinsics(1 / (torch.tan(degrees * 3.14159 / 360) * 1.414))


def gaussian_cameras(
    count: int,
    generator: torch.Generator,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    spread: tuple[float, float] = (0.3, 0.155),
    radius: float = 2.7,
    look_at: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Camera:
    """`count` cameras with normally distributed angles: spread = standard deviations of yaw and pitch,
    radians."""
    yaws = yaw + spread[0] * torch.randn(count, generator=generator)
    pitches = pitch + spread[1] * torch.randn(count, generator=generator)
    return look_at_camera(yaws, pitches, radius, look_at=torch.tensor(look_at))


def gaussian_kernel(sigma: float) -> Tensor:
    """The 1-D kernel 2^(-(i/sigma)^2) (base 2, not e) for |i| <= floor(3 sigma), normalised."""
    radius = math.floor(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp2(-((offsets / sigma) ** 2))
    return kernel / kernel.sum()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Separable blur of [B, C, H, W] with zeros outside; sigma in pixels, above 1/3 to have an effect."""
    kernel = gaussian_kernel(sigma).to(image)
    channels, radius = image.shape[1], len(kernel) // 2
    image = F.conv2d(image, kernel.expand(channels, 1, 1, -1), padding=(0, radius), groups=channels)
    return F.conv2d(image, kernel[:, None].expand(channels, 1, -1, 1), padding=(radius, 0), groups=channels)


def polygon_area(points: Tensor) -> Tensor:
    """Area inside closed polygons by the shoelace formula: [..., N, 2] -> [...]; e.g. the six points of an eye."""
    x, y = points.unbind(-1)
    return (x * y.roll(-1, -1) - y * x.roll(-1, -1)).sum(-1).abs() / 2


def laplacian_loss(sequence: Tensor) -> Tensor:
    """Mean square of x_t - (x_(t-1) + x_(t+1)) / 2, the ends repeated; [T, C] -> scalar."""
    return (_second_difference(len(sequence)).to(sequence) @ sequence).square().mean()


def vertex_texture(mean: Tensor, basis: Tensor, coefficients: Tensor) -> Tensor:
    """Colours of a face without light.

    Args:
        mean: [V, 3] RGB, 0..255 (`meantex` of the Basel model).
        basis: [V, 3, K] (`texBase`).
        coefficients: [B, K] standard deviations.
    Returns:
        [B, V, 3] RGB; 0..1 is black to white, not clamped.
    """
    return (mean + torch.einsum("bk,vck->bvc", coefficients, basis)) / WHITE


def harmonic_light(normals: Tensor, gamma: Tensor) -> Tensor:
    """What light from all sides, given by nine spherical harmonics for each colour, does to a matt surface.

    Args:
        normals: [B, V, 3] unit, in the axes of the camera (posed as the head is).
        gamma: [B, 27]: 9 numbers for red, for green, for blue; 0 is white light of `AMBIENT` from everywhere.
    Returns:
        [B, V, 3] factors on the texture's RGB.
    """
    if gamma.shape[-1] != 3 * HARMONICS:
        raise ValueError(f"gamma has {gamma.shape[-1]} numbers; it must have {3 * HARMONICS}")
    weights = gamma.unflatten(-1, (3, HARMONICS)).clone()  # [B, 3, 9]
    weights[..., 0] += AMBIENT
    return torch.einsum("bvk,bck->bvc", _harmonics(normals), weights)


def _harmonics(normals: Tensor) -> Tensor:
    """Real spherical harmonics of degree 0 to 2 times the cosine lobe of their degree: [..., 3] -> [..., 9]."""
    x, y, z = normals.unbind(-1)
    constant = math.pi / math.sqrt(4 * math.pi)
    linear = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
    square = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
    return torch.stack(
        [
            torch.full_like(x, constant),
            -linear * y,
            linear * z,
            -linear * x,
            square * x * y,
            -square * y * z,
            square / (2 * math.sqrt(3)) * (3 * z**2 - 1),
            -square * x * z,
            square / 2 * (x**2 - y**2),
        ],
        dim=-1,
    )


def mean_absolute(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over real frames."""
    return masked_mean((prediction - truth).abs(), mask)


def velocity(prediction: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute change from frame to frame, over n C like the other terms."""
    change = (prediction[:, 1:] - prediction[:, :-1]).abs() * mask[:, 1:, None]
    return change.sum() / (mask.sum() * prediction.shape[-1])


def continuity(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean square error of the changes, with the first frame's own error."""
    error = prediction - truth
    change = (error[:, 1:] - error[:, :-1]) ** 2 * mask[:, 1:, None]
    return (change.sum() + (error[:, 0] ** 2).sum()) / (mask.sum() * prediction.shape[-1])


def contrastive(audio: Tensor, mouth: Tensor) -> Tensor:
    """InfoNCE over rows and columns of the cosine matrix of unit vectors [B, D], scale 1.

    See docs/spec/audio2motion.md#5-3.
    """
    similarity = audio @ mouth.T
    target = torch.arange(len(similarity), device=similarity.device)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def vgg19_only(loss: PerceptualLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """The simpler loss of docs/spec/training.md#3-2: VGG19 alone at the pictures' own size, images in [-1, 1]."""
    x, y = (((image + 1) / 2 - loss.mean) / loss.std for image in (prediction, target.detach()))
    differences = loss.differences(loss.vgg19, x, y)
    return sum(weight * term for weight, term in zip(LAYER_WEIGHTS.values(), differences))
