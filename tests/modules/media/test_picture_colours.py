import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from modules.media.images import load_picture, read_picture
from tests.conftest import SHARED

COLOURS = np.array([(200, 60, 40), (30, 160, 70), (50, 60, 190), (128, 128, 128), (250, 250, 250), (210, 160, 130)])

AVIF = {"quality": 98, "subsampling": "4:4:4"}


def stripes(colours: np.ndarray) -> np.ndarray:
    """[48, 96, 3] uint8 of six colours [6, 3]."""
    return np.repeat(np.repeat(colours[None], 48, axis=0), 16, axis=1).astype(np.uint8)


def seen(path: Path) -> np.ndarray:
    return read_picture(path)[24, 8::16].astype(int)


def display_p3() -> bytes:
    """The profile of the photos of a phone, as its maker writes it: matrix and curve."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 3) + b"P3\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"free\0" + bytes(3),
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9505, 1.0, 1.0891),
        b"rXYZ": b"XYZ " + bytes(4) + fixed(0.51512, 0.24120, -0.00105),
        b"gXYZ": b"XYZ " + bytes(4) + fixed(0.29198, 0.69225, 0.04189),
        b"bXYZ": b"XYZ " + bytes(4) + fixed(0.15710, 0.06657, 0.78407),
    }
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content
    header = bytearray(128)
    header[:4] = struct.pack(">I", offset + len(body))
    header[8:12], header[12:24], header[36:40] = bytes((2, 0x40, 0, 0)), b"mntrRGB XYZ ", b"acsp"
    header[68:80] = fixed(0.9642, 1.0, 0.8249)
    return bytes(header) + table + body


def p3_of(colours: np.ndarray) -> np.ndarray:
    """sRGB [N, 3] -> Display P3, from the definitions."""
    v = colours / 255
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    matrix = np.array([(0.8225, 0.1774, 0), (0.0332, 0.9669, 0), (0.0171, 0.0724, 0.9108)])
    light = light @ matrix.T
    return np.rint(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "avif", "heic", "jpg"])
def test_a_profile_is_converted_in_every_kind_of_file(tmp_path: Path, suffix: str):
    path = tmp_path / f"photo.{suffix}"
    picture = Image.fromarray(stripes(p3_of(COLOURS)))
    if suffix == "heic":
        pillow_heif.from_pillow(picture).save(path, quality=-1, icc_profile=display_p3(), chroma=444)
    else:
        options = {"webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}, "avif": AVIF}
        picture.save(path, icc_profile=display_p3(), **options.get(suffix, {}))
    assert_allclose(seen(path), COLOURS, atol=6 if suffix in ("jpg", "avif", "heic") else 2)
    assert np.abs(p3_of(COLOURS) - COLOURS).max() > 12  # so that leaving the profile out would show


def test_alpha_and_orientation_go_with_a_profile(tmp_path: Path):
    alpha = np.full((48, 96), 255, np.uint8)
    alpha[:, :16] = 0
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.fromarray(np.dstack([stripes(p3_of(COLOURS)), alpha]))
    picture.save(tmp_path / "a.png", icc_profile=display_p3(), exif=exif)
    loaded = load_picture(tmp_path / "a.png")
    assert_array_equal(loaded.alpha, alpha[::-1, ::-1])
    assert_allclose(loaded.rgb[24, 88:1:-16][1:], COLOURS[1:], atol=2)
    assert (loaded.rgb[:, -16:] == 255).all()


def test_grey_and_palette_pictures_with_a_profile_are_read(tmp_path: Path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.fromarray(stripes(COLOURS)).convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=srgb)
    assert_allclose(seen(tmp_path / "grey.png")[:, 0], np.array(grey)[24, 8::16], atol=1)
    Image.fromarray(stripes(p3_of(COLOURS))).quantize(16).save(tmp_path / "p.png", icc_profile=display_p3())
    assert_allclose(seen(tmp_path / "p.png"), COLOURS, atol=3)


def test_lab_and_cmyk_pictures_become_rgb(tmp_path: Path):
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB", renderingIntent=1
    )
    ImageCms.applyTransform(Image.fromarray(stripes(COLOURS)), transform).save(tmp_path / "lab.tiff")
    assert_allclose(seen(tmp_path / "lab.tiff"), COLOURS, atol=6)
    Image.fromarray(stripes(COLOURS)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    assert_allclose(seen(tmp_path / "cmyk.jpg"), COLOURS, atol=6)


@pytest.mark.parametrize("profile", [b"rubbish", display_p3()[:200], display_p3().replace(b"RGB XYZ", b"CMYKXYZ")])
def test_a_broken_profile_is_mentioned_and_left_out(tmp_path: Path, profile: bytes, capsys: pytest.CaptureFixture):
    Image.fromarray(stripes(COLOURS)).save(tmp_path / "a.png", icc_profile=profile)
    assert_array_equal(seen(tmp_path / "a.png"), COLOURS)
    said = capsys.readouterr().err
    assert said.startswith("note: ") and "a.png" in said and said.count("\n") == 1


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(path: Path, colours: np.ndarray, *chunks: bytes) -> Path:
    buffer = io.BytesIO()
    Image.fromarray(stripes(colours)).save(buffer, format="PNG", pnginfo=PngInfo())
    data = buffer.getvalue()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])  # after the header
    return path


def gamma(value: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


def test_gamma_and_primaries_of_a_png_count_unless_it_says_srgb(tmp_path: Path):
    v = COLOURS / 255
    old_mac = np.rint(255 * np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) ** (1 / 1.8))
    assert_allclose(seen(with_chunks(tmp_path / "a.png", old_mac, gamma(1 / 1.8))), COLOURS, atol=2)
    p3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    points = png_chunk(b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in p3)))
    assert_allclose(seen(with_chunks(tmp_path / "b.png", p3_of(COLOURS), gamma(0.45455), points)), COLOURS, atol=3)
    srgb = png_chunk(b"sRGB", b"\0")
    assert_array_equal(seen(with_chunks(tmp_path / "c.png", COLOURS, srgb, gamma(1.0))), COLOURS)
    impossible = (gamma(0.0), png_chunk(b"cHRM", bytes(32)))
    assert_array_equal(seen(with_chunks(tmp_path / "d.png", COLOURS, *impossible)), COLOURS)


def test_the_numbers_of_a_png_count(tmp_path: Path):
    path = with_chunks(tmp_path / "a.png", p3_of(COLOURS), png_chunk(b"cICP", bytes((12, 13, 0, 1))))
    assert_allclose(seen(path), COLOURS, atol=2)


def test_adobe_rgb_of_a_camera_is_known_by_its_exif_mark(tmp_path: Path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(stripes(COLOURS)).save(tmp_path / "a.jpg", quality=98, subsampling=0, exif=exif)
    green = seen(tmp_path / "a.jpg")[1]
    assert green[0] < 10 and abs(green[1] - 161) < 5  # (30, 160, 70) of Adobe RGB is greener than sRGB can show


def test_the_photo_of_a_phone_looks_as_its_srgb_twin():
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}; set REAL3D_SHARED")
    photo, twin = (read_picture(folder / f"display_p3{end}.jpg").astype(float) for end in ("", "_as_srgb"))
    assert_allclose(photo.mean((0, 1)), twin.mean((0, 1)), atol=0.5)
    assert np.abs(photo - twin).mean() < 2
