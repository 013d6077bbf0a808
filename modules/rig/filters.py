"""Filters of pictures for the rig: on a CPU by OpenCV, which is several times as fast, elsewhere by PyTorch.

Set-up works on arrays [H, W] or [H, W, C]; drawing on tensors [B, H, W, C], whose last axis OpenCV wants there.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.analysis.inpainting import continue_colours

_ROW = 1024  # places a row of a map; OpenCV takes no rows longer than 32767


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 to 1 over [0, 1], flat at both ends."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def soft(x: Tensor) -> Tensor:
    """`smoothstep` of a tensor."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of [H, W] or [H, W, C] -> float32."""
    return cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), sigma)


def grow(mask: np.ndarray, size: int) -> np.ndarray:
    """Dilation of [H, W] by a square of `size` pixels a side -> bool."""
    return cv2.dilate(np.asarray(mask, np.uint8), np.ones((size, size))) > 0


def shrink(mask: np.ndarray, size: int) -> np.ndarray:
    """Erosion of [H, W] by a square of `size` pixels a side -> bool."""
    return cv2.erode(np.asarray(mask, np.uint8), np.ones((size, size))) > 0


def fill(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Smooth continuation of [H, W] or [H, W, C <= 3] from where `known` [H, W] is, float32."""
    wide = values if values.ndim == 3 else values[..., None]
    three = np.broadcast_to(wide, (*wide.shape[:2], 3)) if wide.shape[2] == 1 else wide
    filled = continue_colours(np.asarray(three, np.float32), np.asarray(known, np.float32), sweeps=20)
    return filled[..., : wide.shape[2]].reshape(values.shape).astype(np.float32)


def polygon(points: np.ndarray, size: int) -> np.ndarray:
    """The inside of a ring [N, 2] in fractions of a square of `size` pixels a side: [size, size] bool."""
    mask = np.zeros((size, size), np.uint8)
    corners = np.rint((points * size - 0.5) * 8).astype(np.int32)
    return cv2.fillPoly(mask, [corners], 1, shift=3) > 0


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """[H, W] or [H, W, C] -> `size` pixels a side: averaged when smaller, linear when larger; float32."""
    image = np.asarray(image, np.float32)
    if image.shape[0] == size:
        return image
    smaller = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


# ---- tensors of frames


def look_up(texture: Tensor, places: Tensor) -> Tensor:
    """Cubic look-up; beyond the border the texture goes on as it ends.

    Args:
        texture: [H, W, C], at most 4 channels.
        places: [..., 2], (column, row) in pixels, the middle of the first pixel at 0.5.
    Returns:
        [..., C].
    """
    flat = places.reshape(-1, 2)
    if not len(flat):
        return texture.new_zeros(*places.shape[:-1], texture.shape[-1])
    if texture.device.type == "cpu":
        return torch.from_numpy(_remap(texture.numpy(), flat.numpy())).reshape(*places.shape[:-1], -1)
    return _sampled(texture, flat).reshape(*places.shape[:-1], -1)


def _sampled(texture: Tensor, places: Tensor) -> Tensor:
    """`look_up` of places [N, 2] -> [N, C] by PyTorch."""
    size = places.new_tensor([texture.shape[1], texture.shape[0]])
    grid = (2 * places / size - 1)[None, None]
    return F.grid_sample(texture.permute(2, 0, 1)[None], grid, "bicubic", "border", align_corners=False)[0, :, 0].T


def _remap(texture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`look_up` of places [N, 2] -> [N, C] by OpenCV."""
    count, rows = len(places), -(-len(places) // _ROW)
    where = places - np.float32(0.5)
    if count % _ROW:
        where = np.concatenate([where, np.zeros((rows * _ROW - count, 2), np.float32)])
    where = where.reshape(rows, _ROW, 2)
    result = cv2.remap(texture, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return result.reshape(rows * _ROW, -1)[:count]


def gaussian(image: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussian blur of [B, H, W, C] with an odd kernel of `size` pixels, the picture mirrored at its border."""
    if image.device.type == "cpu":
        return _each(image, lambda picture: cv2.GaussianBlur(picture, (size, size), sigma))
    return _convolved(image, size, sigma)


def _convolved(image: Tensor, size: int, sigma: float) -> Tensor:
    """`gaussian` by PyTorch."""
    axis = torch.arange(size, device=image.device, dtype=image.dtype) - size // 2
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    flat = image.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    flat = F.pad(flat, (size // 2,) * 4, mode="reflect")
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return flat[:, 0].unflatten(0, (image.shape[0], -1)).permute(0, 2, 3, 1)


def widened(mask: Tensor, size: int) -> Tensor:
    """Dilation of a mask [B, H, W] bool by a square of `size` pixels, odd."""
    if mask.device.type == "cpu":
        square = np.ones((size, size))
        return _each(mask[..., None].byte(), lambda picture: cv2.dilate(picture, square))[..., 0].bool()
    return _pooled(mask, size)


def _pooled(mask: Tensor, size: int) -> Tensor:
    """`widened` by PyTorch."""
    return _maximum(mask.float(), size) > 0


def greatest(image: Tensor, size: int) -> Tensor:
    """The greatest value of [B, H, W] in a square of `size` pixels a side, odd, around each pixel."""
    if image.device.type == "cpu":
        square = np.ones((size, size))
        return _each(image[..., None], lambda picture: cv2.dilate(picture, square))[..., 0]
    return _maximum(image, size)


def _maximum(image: Tensor, size: int) -> Tensor:
    """`greatest` by PyTorch."""
    return F.max_pool2d(image[:, None], size, 1, size // 2)[:, 0]


def enlarged(image: Tensor, size: int) -> Tensor:
    """[B, H, W, C], at most 4 channels, enlarged linearly to [B, size, size, C]."""
    if image.shape[1] == size:
        return image
    if image.device.type == "cpu":
        return _each(image, lambda picture: cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR))
    return _interpolated(image, size)


def averaged(image: Tensor) -> Tensor:
    """The mean of [B, H, W, C] over 3 x 3 pixels, with 0 beyond the border."""
    if image.device.type == "cpu":
        return _each(image, lambda picture: cv2.blur(picture, (3, 3), borderType=cv2.BORDER_CONSTANT))
    return _pooled_mean(image)


def _pooled_mean(image: Tensor) -> Tensor:
    """`averaged` by PyTorch."""
    return F.avg_pool2d(image.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)


def _interpolated(image: Tensor, size: int) -> Tensor:
    """`enlarged` by PyTorch."""
    moved = F.interpolate(image.permute(0, 3, 1, 2), (size, size), mode="bilinear", align_corners=False)
    return moved.permute(0, 2, 3, 1).contiguous()


def _each(images: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """An OpenCV function applied to each picture of [B, H, W, C]."""
    results = [change(np.ascontiguousarray(picture)) for picture in images.numpy()]
    stacked = np.stack(results) if len(results) > 1 else results[0][None]
    return torch.from_numpy(stacked).reshape(len(results), *results[0].shape[:2], -1)
