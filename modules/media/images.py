"""Read pictures of any kind as uint8 sRGB: decoded by content, upright, 8 bit, alpha kept apart, not too large."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from modules.media.picture_colours import colours_of, to_srgb
from modules.system.errors import UserError

MAX_PIXELS = 100_000_000  # above it a picture is refused before it is decoded
MAX_SIDE = 4000  # to which larger pictures are reduced: no smaller face is found in a larger one
MIN_SIDE = 32  # below it no face can be found
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, KeyError, TypeError, struct.error)  # of decoders
PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")


@dataclass(frozen=True)
class Picture:
    """A decoded picture, at most `MAX_SIDE` pixels a side.

    Attributes:
        rgb: [H, W, 3] uint8 sRGB; transparent pixels are mixed with white.
        alpha: [H, W] uint8, 0 transparent (background) to 255 opaque; None when the whole picture is opaque.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as uint8 sRGB [H, W, 3], upright (EXIF), transparent pixels white.

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
            with _open(path) as image:
                return _decode(image, path)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: permission denied") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path.name} has too many pixels; make it smaller first") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path.name} is not a picture that can be read; give a JPEG, PNG, HEIC, AVIF or WebP file"
        ) from error
    except (*DAMAGE, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path.name} is damaged or incomplete ({reason}); save it again or use another") from error


def _open(path: Path) -> Image.Image:
    """A picture of any kind. HEIF (of phones) is decoded here, others when their pixels are asked for."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        if not pillow_heif.is_supported(path):
            raise
    heif = pillow_heif.open_heif(path)
    _check_size(path.name, heif.size, heif.size)
    return heif.to_pillow()


def _check_size(name: str, size: tuple[int, int], decoded: tuple[int, int]) -> None:
    width, height = size
    if decoded[0] * decoded[1] > MAX_PIXELS:
        raise UserError(f"{name} is {width} x {height}; make it smaller than {MAX_PIXELS // 10**6} million pixels")
    if min(size) < MIN_SIDE:
        raise UserError(f"{name} is only {width} x {height}; use a picture of at least {MIN_SIDE} pixels a side")


def _decode(image: Image.Image, path: Path) -> Picture:
    """Upright 8-bit sRGB and alpha of an opened image (the first frame of an animation)."""
    size = image.size
    image.draft(None, _reduced_size(size))  # a JPEG is decoded at half, a quarter or an eighth of its size
    _check_size(path.name, size, image.size)
    colours = colours_of(image, path)
    ImageOps.exif_transpose(image, in_place=True)
    plain = _plain(image)
    if _reduced_size(plain.size) != plain.size:
        plain = plain.resize(_reduced_size(plain.size), Image.Resampling.BOX)
    srgb = to_srgb(plain, colours, path.name)
    if srgb.mode == "RGB":
        return Picture(np.array(srgb), None)
    rgba = np.array(srgb)  # [H, W, 4]
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return Picture(np.ascontiguousarray(rgba[..., :3]), None)
    share = alpha[..., None].astype(np.float32) / 255
    rgb = np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
    return Picture(rgb, np.ascontiguousarray(alpha))


def _reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, MAX_SIDE / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _plain(image: Image.Image) -> Image.Image:
    """An image in one of `PLAIN_MODES`: 8 bits a channel, no palette, no transparent colour."""
    if image.mode.startswith(("I", "F")):  # 16-bit or float grey
        return _to_8_bit(image)
    if image.mode in PLAIN_MODES and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (0..65535), or of any other range scaled to its extremes, as 8 bits."""
    values = np.array(image).astype(np.float32)
    low, high = 0.0, 65535.0
    if values.max() > high or values.min() < low or image.mode == "F":
        low, high = float(values.min()), float(max(values.max(), values.min() + 1e-12))
    return Image.fromarray(np.rint((values - low) / (high - low) * 255).astype(np.uint8))
