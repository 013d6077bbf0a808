"""Tell pictures from clips by their content, without decoding and without what is slow to import."""

import warnings
from pathlib import Path

import pillow_heif
from PIL import Image, UnidentifiedImageError

from modules.system.errors import UserError

CLIP_LIKE = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "ICO", "PPM")  # what PyAV reads as clips


def is_picture(path: Path) -> bool:
    """Whether the content of a file is a picture, or an animation of the kinds that pictures have (GIF, WebP...)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=CLIP_LIKE):
                return True
    except Image.DecompressionBombError:
        return True
    except UnidentifiedImageError:
        return pillow_heif.is_supported(path)
    except (OSError, ValueError, SyntaxError):
        return False


def check_clip(path: Path) -> None:
    """Refuse a picture in the place of a driving clip.

    Raises:
        UserError: it is one.
    """
    if is_picture(path):
        raise UserError(
            f"{path.name} is a picture or animation; --driving and --pose need a video (MP4, MOV or WebM), "
            "and --source a photo"
        )
