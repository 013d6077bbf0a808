"""Read pictures from files of any kind as uint8 RGB: decoded by content, upright, 8 bit, alpha kept apart."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from modules.system.errors import UserError

MAX_PIXELS = 100_000_000  # above it a picture is refused before it is decoded
MIN_SIDE = 32  # below it no face can be found


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: [H, W, 3] uint8; transparent pixels are mixed with white.
        alpha: [H, W] uint8, 0 transparent (background) to 255 opaque; None when the whole picture is opaque.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as uint8 RGB [H, W, 3], upright (EXIF), transparent pixels white.

    Raises:
        UserError: what `load_picture` refuses.
    """
    return load_picture(path).rgb


def load_picture(path: Path) -> Picture:
    """Read a picture with its transparency.

    Raises:
        UserError: no such file, a folder, no picture, a damaged one, one that is too large, or smaller
            than 32 pixels.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a picture file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns where we check ourselves
            with Image.open(path) as image:
                _check_size(path, image.size)
                picture = _decode(image)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path.name} has too many pixels; make it smaller first") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path.name} is not a picture that can be read; give a JPEG, PNG or WebP file") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise UserError(f"{path.name} is damaged or incomplete ({error}); save it again or use another") from error
    return picture


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise UserError(f"{path.name} is {width} x {height}; make it smaller than {MAX_PIXELS // 10**6} million pixels")
    if min(size) < MIN_SIDE:
        raise UserError(f"{path.name} is only {width} x {height}; use a picture of at least {MIN_SIDE} pixels a side")


def _decode(image: Image.Image) -> Picture:
    """Upright 8-bit RGB and alpha of an opened image (the first frame of an animation)."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):  # 16-bit or float grey
        upright = _to_8_bit(upright)
    if not upright.has_transparency_data:
        return Picture(np.array(upright.convert("RGB")), None)
    rgba = np.array(upright.convert("RGBA"))  # [H, W, 4]
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return Picture(np.ascontiguousarray(rgba[..., :3]), None)
    share = alpha[..., None].astype(np.float32) / 255
    rgb = np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
    return Picture(rgb, np.ascontiguousarray(alpha))


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (0..65535), or of any other range scaled to its extremes, as 8 bits."""
    values = np.array(image).astype(np.float64)
    low, high = 0.0, 65535.0
    if values.max() > high or values.min() < low or image.mode == "F":
        low, high = values.min(), max(values.max(), values.min() + 1e-12)
    return Image.fromarray(np.rint((values - low) / (high - low) * 255).astype(np.uint8))
