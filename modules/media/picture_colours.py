"""The colours of a photo as its file describes them (ICC, CICP, PNG chunks, EXIF), as sRGB of 8 bits."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from modules.media.colour import SRGB_PRIMARIES, UNSPECIFIED, WHITE_D65, Space, space_to_srgb
from modules.system.errors import note

ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), transfer=None, gamma=563 / 256)
INTEROPERABILITY, ADOBE = 0xA005, "R03"  # EXIF: how cameras say Adobe RGB without a profile
CODES_HEADER = 65536  # bytes of a file in which its numbers of H.273 are looked for
CHANNELS = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}  # colour space of a profile -> mode of a picture
GAMMA_OF_SRGB, SAME_GAMMA, SAME_POINT = 1 / 2.2, 0.005, 0.003


def colours_of(image: Image.Image, path: Path) -> bytes | Space | None:
    """What the file of an opened image says about its colours: an ICC profile, a space, or None for sRGB.

    What counts first: the CICP chunk of a PNG, an ICC profile, the numbers of HEIF and AVIF, the chunks sRGB, gAMA and
    cHRM of a PNG, the EXIF mark of Adobe RGB.
    """
    profile = image.info.get("icc_profile")
    space = _coded_space(image, path) if image.format == "PNG" or not profile else None
    if space or profile:
        return space or profile
    if image.format == "PNG":
        return None if "srgb" in image.info else _space_of_chunks(image.info)
    mark = image.getexif().get_ifd(INTEROPERABILITY).get(1)
    return ADOBE_RGB if isinstance(mark, str) and mark.startswith(ADOBE) else None


def to_srgb(image: Image.Image, colours: bytes | Space | None, name: str) -> Image.Image:
    """Convert a picture.

    Args:
        image: of mode L, LA, RGB, RGBA, CMYK or LAB.
        colours: from `colours_of`; a profile that cannot be used is mentioned and left out.
        name: what messages call the picture.
    Returns:
        RGB, or RGBA if it has transparency.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    bare = image.convert({"LA": "L", "RGBA": "RGB"}[image.mode]) if alpha else image
    if isinstance(colours, Space):
        converted = space_to_srgb(bare.convert("RGB"), colours)
    else:
        converted = _from_profile(bare, colours, name)
    if alpha:
        converted.putalpha(alpha)
    return converted


def _from_profile(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    if profile:
        try:
            return _through_profile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            note(f"the colour profile of {name} cannot be used ({reason}); its colours are taken for ordinary ones")
    if image.mode == "LAB":
        return _through_profile(image, ImageCms.createProfile("LAB"))
    return image.convert("RGB")


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile) -> Image.Image:
    core = getattr(profile, "profile", profile)
    mode = CHANNELS.get(core.xcolor_space.strip())
    if mode != image.mode and not (mode == "RGB" and image.mode == "L"):
        raise ValueError(f"it is one of {core.xcolor_space.strip()}, the picture is {image.mode}")
    return ImageCms.profileToProfile(
        image.convert(mode),
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _coded_space(image: Image.Image, path: Path) -> Space | None:
    """The space of the numbers of H.273 in a PNG, HEIF or AVIF file; None where there are none, or they mean sRGB."""
    codes = image.info.get("nclx_profile")  # of pillow_heif
    if codes:
        primaries, transfer = int(codes["color_primaries"]), int(codes["transfer_characteristics"])
    else:
        marks = {"PNG": (b"cICP", ">BB"), "AVIF": (b"colrnclx", ">HH")}
        mark, layout = marks.get(image.format or "", (b"", ""))
        with path.open("rb") as file:
            before, found, after = file.read(CODES_HEADER if mark else 0).partition(mark or b"-")
        if not found or len(after) < struct.calcsize(layout):
            return None
        primaries, transfer = struct.unpack_from(layout, after)
    space = Space.of_codes(primaries, transfer)
    return None if space == Space() or (primaries, transfer) == (UNSPECIFIED, UNSPECIFIED) else space


def _space_of_chunks(info: dict) -> Space | None:
    """The space of the chunks gAMA and cHRM of a PNG; None without them, for sRGB, and for impossible ones."""
    gamma, points = info.get("gamma"), info.get("chromaticity")
    gamma = gamma if gamma and 0.1 < gamma < 5 else GAMMA_OF_SRGB
    pairs = tuple(zip(points[::2], points[1::2], strict=True)) if points and len(points) == 8 else ()
    srgb = (WHITE_D65, *SRGB_PRIMARIES)
    if not pairs or np.abs(np.subtract(pairs, srgb)).max() < SAME_POINT or not _possible(pairs):
        pairs = srgb
    is_plain = abs(gamma - GAMMA_OF_SRGB) < SAME_GAMMA
    if is_plain and pairs == srgb:
        return None
    white, *primaries = pairs
    return Space(tuple(primaries), white, **({} if is_plain else {"transfer": None, "gamma": 1 / gamma}))


def _possible(points: tuple[tuple[float, float], ...]) -> bool:
    """Whether white lies between red, green and blue (CIE x, y), and nothing has no light."""
    if any(y < 0.001 for _, y in points):
        return False
    matrix = np.array([(x, y, 1.0) for x, y in points[1:]]).T
    if abs(np.linalg.det(matrix)) < 1e-3:
        return False
    return bool((np.linalg.solve(matrix, (*points[0], 1.0)) > 0).all())
