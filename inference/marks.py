"""The plain mark of a synthetic picture or video, as the writers put it into a file: read from any file."""

import json
import struct
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from inference.web.kinds import check_media
from modules.media.container import open_media
from modules.media.images import DAMAGE
from modules.media.video_writer import PROVENANCE
from modules.system.errors import UserError

_PICTURES = ("JPEG", "PNG", "GIF", "WEBP")
_DESCRIPTION = 0x010E  # the EXIF tag ImageDescription
_GLB = struct.Struct("<4sIIII")  # glTF: magic, version, length; then the first chunk's length and kind
_LONGEST_GLB_TEXT = 1 << 26  # bytes
MARK = PROVENANCE.split(":")[0]  # what every mark begins with


def read_mark(path: Path) -> str | None:
    """The mark of this program in a picture, video or mesh, or None if it holds none.

    Raises:
        UserError: no such file, or no picture, video or mesh.
    """
    texts = _texts(path)
    return next((text for text in texts if text.startswith(MARK)), None)


def _texts(path: Path) -> list[str]:
    """All that a file says about itself in the places where the writers put the mark."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a picture or video")
    try:
        with path.open("rb") as file:
            start = file.read(_GLB.size)
            if start.startswith(b"glTF") and len(start) == _GLB.size:
                return _of_mesh(file.read(min(_GLB.unpack(start)[3], _LONGEST_GLB_TEXT)))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_PICTURES) as picture:
                found = [picture.info.get("comment"), picture.info.get("Comment")]
                if picture.format != "PNG":  # Pillow would decode it, and stop at damage that is to be told of later
                    found.append(picture.getexif().get(_DESCRIPTION))
    except UnidentifiedImageError:
        return _of_video(path)
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(f"{path.name} is a damaged picture ({error}); get it again") from error
    return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in found if text]


def _of_video(path: Path) -> list[str]:
    try:
        check_media(path)
        with open_media(path) as container:
            return [text for key, text in container.metadata.items() if key.lower() == "comment"]
    except UserError as error:
        raise UserError(f"{path.name} is no picture, video or mesh that can be read; give another file") from error


def _of_mesh(text: bytes) -> list[str]:
    try:
        return [str(json.loads(text)["asset"].get("copyright", ""))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
