import io
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from modules.media import images as pictures
from modules.media.images import MAX_SIDE, load_picture, read_picture
from modules.system.errors import UserError


@pytest.fixture
def ramp() -> np.ndarray:
    rows, columns = np.mgrid[:40, :60]
    return np.stack([columns * 4, rows * 6, np.full_like(rows, 30)], axis=-1).astype(np.uint8)


def test_a_path_with_spaces_and_any_letters_is_read(tmp_path: Path, ramp: np.ndarray):
    path = tmp_path / "mein Foto é 照片.png"
    Image.fromarray(ramp).save(path)
    np.testing.assert_array_equal(read_picture(path), ramp)


def test_the_content_decides_not_the_name(tmp_path: Path, ramp: np.ndarray):
    path = tmp_path / "really_png.jpg"
    Image.fromarray(ramp).save(path, format="PNG")
    np.testing.assert_array_equal(read_picture(path), ramp)


@pytest.mark.parametrize(
    "orientation, turn",
    [
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (8, lambda x: np.rot90(x)),
        (2, lambda x: x[:, ::-1]),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, ramp: np.ndarray, orientation: int, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "phone.png"), turn(ramp))


def test_grey_of_8_and_16_bits_becomes_the_same_rgb(tmp_path: Path, ramp: np.ndarray):
    grey = ramp[..., 0]
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    eight, sixteen = read_picture(tmp_path / "8.png"), read_picture(tmp_path / "16.png")
    np.testing.assert_array_equal(eight, np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(sixteen, eight)


def test_transparent_pixels_are_white_and_alpha_is_kept(tmp_path: Path, ramp: np.ndarray):
    alpha = np.where(np.arange(60) < 30, 0, 255).astype(np.uint8) * np.ones((40, 1), np.uint8)
    Image.fromarray(np.dstack([ramp, alpha])).save(tmp_path / "cut_out.png")
    picture = load_picture(tmp_path / "cut_out.png")
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert (picture.rgb[:, :30] == 255).all()
    np.testing.assert_array_equal(picture.rgb[:, 30:], ramp[:, 30:])


def test_an_opaque_alpha_channel_is_no_mask(tmp_path: Path, ramp: np.ndarray):
    Image.fromarray(np.dstack([ramp, np.full((40, 60), 255, np.uint8)])).save(tmp_path / "rgba.png")
    picture = load_picture(tmp_path / "rgba.png")
    assert picture.alpha is None
    np.testing.assert_array_equal(picture.rgb, ramp)


def _jpeg(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"Dear reader, this is not a picture.", "not a picture"),
        (b"", "not a picture"),
        (None, "no file"),
        ("half", "damaged"),
        ("folder", "folder"),
        ("tiny", "at least 32 pixels"),
    ],
)
def test_what_is_no_usable_picture_is_refused_in_one_line(tmp_path: Path, ramp: np.ndarray, content, words: str):
    path = tmp_path / "face.png"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        data = {"half": _jpeg(ramp)[:-400], "tiny": _jpeg(ramp[:20, :20])}.get(content, content)
        path.write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_a_picture_of_too_many_pixels_is_refused_before_decoding(tmp_path: Path, ramp: np.ndarray, monkeypatch):
    Image.fromarray(ramp).save(tmp_path / "bomb.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 60 - 1)
    with pytest.raises(UserError, match="60 x 40"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_large_picture_is_reduced_and_stays_upright(tmp_path: Path, monkeypatch, suffix: str):
    monkeypatch.setattr(pictures, "MAX_SIDE", 100)
    image = np.full((200, 400, 3), 40, np.uint8)
    image[:, :200] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    Image.fromarray(image).save(tmp_path / f"large.{suffix}", exif=exif)
    seen = read_picture(tmp_path / f"large.{suffix}").astype(int)
    assert seen.shape == (100, 50, 3)
    assert abs(seen[:45] - 200).max() < 12 and abs(seen[55:] - 40).max() < 12


def test_a_jpeg_of_more_pixels_than_are_read_is_decoded_at_half_its_size(tmp_path: Path, monkeypatch):
    Image.fromarray(np.zeros((160, 160, 3), np.uint8)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(pictures, "MAX_SIDE", 80)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 80 * 80)
    assert read_picture(tmp_path / "a.jpg").shape == (80, 80, 3)
    assert MAX_SIDE == 4000  # half of 8000


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "I;16", "CMYK", "RGBA"])
def test_large_pictures_of_every_kind_are_reduced(tmp_path: Path, monkeypatch, mode: str):
    monkeypatch.setattr(pictures, "MAX_SIDE", 50)
    kind = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (200, 100)).save(tmp_path / f"a.{kind}")
    assert read_picture(tmp_path / f"a.{kind}").shape == (25, 50, 3)


def test_the_photo_of_a_phone_is_read_upright(tmp_path: Path, ramp: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = 6
    heif = pillow_heif.from_pillow(Image.fromarray(ramp))
    heif.save(tmp_path / "IMG_0001.HEIC", quality=-1, chroma=444, exif=exif.tobytes())
    seen = read_picture(tmp_path / "IMG_0001.HEIC").astype(int)
    assert seen.shape == (60, 40, 3) and abs(seen - np.rot90(ramp, -1)).mean() < 2


def test_half_a_heic_file_is_refused_in_one_line(tmp_path: Path, ramp: np.ndarray):
    pillow_heif.from_pillow(Image.fromarray(ramp)).save(tmp_path / "a.heic")
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="a.heic is damaged") as caught:
        read_picture(tmp_path / "a.heic")
    assert "\n" not in str(caught.value)
