"""Which uploads are looked at at all: kinds that name no other files and start no other programs."""

from pathlib import Path

import pillow_heif
from PIL import Image, UnidentifiedImageError

from modules.media.images import DAMAGE
from modules.system.errors import UserError

_PICTURES = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")  # of Pillow; others run programs (EPS)
_MAGIC = {  # offset -> how sound and video files begin; play lists, which name other files, are texts
    0: (
        b"RIFF", b"RF64", b"ID3", b"OggS", b"fLaC", b"FORM", b"caff", b".snd", b"\x30\x26\xb2\x75",
        b"\x00\x00\x01\xba", b"FLV\x01", b"riff",
    ),
    4: (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"),
}  # fmt: skip
_BINARY = 64  # bytes among which one is 0 in all of these but WebM: what reads texts finds none in them
_WEBM = b"\x1aE\xdf\xa3"
_SYNC = 0xE0  # the bits that follow 0xFF in a frame of MP3 or AAC without a container
_TS_PACKET = 188


def check_picture(path: Path, most_pixels: int) -> None:
    """Refuse what is no picture of a common kind, or too large to decode.

    Raises:
        UserError: the file is called by its name.
    """
    try:
        with Image.open(path, formats=_PICTURES) as image:
            size = image.size
    except UnidentifiedImageError as error:
        if not pillow_heif.is_supported(path):
            raise UserError(f"{path.name} is no picture; send a JPEG, PNG, HEIC, AVIF or WebP file") from error
        return  # its size is checked before it is decoded
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(f"{path.name} is damaged; save it again or use another") from error
    if size[0] * size[1] > most_pixels:
        raise UserError(
            f"{path.name} is {size[0]} x {size[1]}; make it smaller than {most_pixels / 1e6:g} million pixels"
        )


def check_media(path: Path) -> None:
    """Refuse what does not begin as a sound or video file.

    Raises:
        UserError: the file is called by its name.
    """
    with path.open("rb") as file:
        start = file.read(2 * _TS_PACKET)
    known = any(start[at:].startswith(magic) for at, magics in _MAGIC.items() for magic in magics)
    known = known and 0 in start[:_BINARY] or start.startswith(_WEBM)
    bare = len(start) > 1 and start[0] == 0xFF and start[1] & _SYNC == _SYNC
    stream = len(start) > _TS_PACKET and start[0] == start[_TS_PACKET] == 0x47
    if not (known or bare or stream):
        raise UserError(f"{path.name} is no sound or video file; send WAV, MP3, M4A, OGG, FLAC, MP4, MOV or WebM")
