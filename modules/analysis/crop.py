"""Square crops around a face: of a photo and of a whole clip (docs/spec/data_gen.md#1)."""

from dataclasses import dataclass

import cv2
import numpy as np

FACE_AREA = 0.2  # share of the square that the face's bounding box should fill
LARGEST_FACE_AREA = 0.35  # accepted share where the photo ends before FACE_AREA is reached
LARGEST_SHIFT = 0.12  # how far the face may be off the middle, in sides of the square


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels; `right` and `bottom` are exclusive; it may reach outside the picture."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError(f"the box {self.left}, {self.top}, {self.right}, {self.bottom} is empty")

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


def photo_crop(picture: np.ndarray, landmarks: np.ndarray) -> Box:
    """The square around the face of a photo whose side makes the face fill about a fifth of it.

    Where the photo ends, the face is first moved off the middle a little, then the square shrinks until the
    face fills about a third; only then does it reach outside.

    Args:
        picture: [H, W, 3], of which only the size is used.
        landmarks: [478, 2], fractions of the picture (x right, y down).
    Returns:
        A square in pixels of the picture.
    """
    height, width = picture.shape[:2]
    low, high = _extent(landmarks, (width, height))
    area = float(np.prod(high - low))
    return _square((low + high) / 2, area, (width, height), least_side=0.0)


def clip_crop(shape: tuple[int, int], landmarks: np.ndarray) -> Box:
    """One square for a whole clip: round the median face, wide enough that the face never leaves it.

    Args:
        shape: (H, W) of the frames.
        landmarks: [T, 478, 2], fractions of the frame.
    Returns:
        A square in pixels of the frames.
    """
    size = shape[::-1]
    low, high = _extent(landmarks, size)  # [T, 2]
    area = float(np.median(np.prod(high - low, axis=-1)))
    middle = np.median((low + high) / 2, axis=0)
    farthest = np.maximum(middle - low.min(0), high.max(0) - middle).max()
    return _square(middle, area, size, least_side=2.1 * farthest)


def _extent(landmarks: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest pixel coordinates of landmarks [..., N, 2]: two arrays [..., 2]."""
    points = np.asarray(landmarks, np.float64) * np.array(size, np.float64)
    return points.min(-2), points.max(-2)


def _square(middle: np.ndarray, face_area: float, size: tuple[int, int], least_side: float) -> Box:
    """The largest square, up to the ideal one, that fits with the face near enough to its middle."""
    limits = np.array(size, np.float64)
    ideal = max(least_side, (face_area / FACE_AREA) ** 0.5)
    smallest = max(least_side, (face_area / LARGEST_FACE_AREA) ** 0.5)
    room = float(np.minimum(middle, limits - middle).min()) / (0.5 - LARGEST_SHIFT)
    side = max(int(min(max(limits.min(), smallest), max(room, smallest), ideal)), 2)
    start = np.rint(np.clip(middle - side / 2, 0, np.maximum(limits - side, 0)))
    centred, farthest = middle - side / 2, LARGEST_SHIFT * side + 1
    left, top = (int(v) for v in np.clip(start, np.ceil(centred - farthest), np.floor(centred + farthest)))
    return Box(left, top, left + side, top + side)


def crop_picture(picture: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut a box out at full resolution and resize it; what lies outside the picture is its reflection.

    Args:
        picture: [H, W, 3] or [H, W], uint8.
        box: in pixels of the picture.
        size: S, pixels a side.
    Returns:
        [S, S, 3] or [S, S] uint8; averaged when it gets smaller, cubic when it gets larger.
    """
    height, width = picture.shape[:2]
    inner = picture[max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)]
    if inner.size == 0:
        raise ValueError(f"{box} lies outside the picture of {width} x {height}")
    rows = (max(-box.top, 0), max(box.bottom - height, 0))
    columns = (max(-box.left, 0), max(box.right - width, 0))
    padding = [rows, columns] + [(0, 0)] * (picture.ndim - 2)
    return resize(np.pad(inner, padding, mode="symmetric"), (size, size))


def crop_landmarks(landmarks: np.ndarray, shape: tuple[int, int], box: Box) -> np.ndarray:
    """Landmarks [..., 2] in fractions of a picture of shape (H, W) -> [..., 2] in fractions of a box in it."""
    return (landmarks * shape[::-1] - (box.left, box.top)) / (box.width, box.height)


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [H, W] or [H, W, 3] to `size` = (width, height): averaged when smaller, cubic when larger."""
    smaller = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    picture = np.ascontiguousarray(picture)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def centre_crop(picture: np.ndarray, size: int) -> np.ndarray:
    """The largest square in the middle, resized: [H, W, 3] -> [S, S, 3] uint8, S = `size`."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return crop_picture(picture, Box(left, top, left + side, top + side), size)
