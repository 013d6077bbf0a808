"""What may be decoded at all: by its first bytes, never by its name."""

import io

import numpy as np
import pytest
import soundfile

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from PIL import Image

from inference.web.kinds import check_media, check_picture
from modules.system.errors import UserError


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pictures_of_common_kinds_are_looked_at(tmp_path, kind):
    Image.new("RGB", (40, 30)).save(tmp_path / "x", kind)
    check_picture(tmp_path / "x", 1200)
    with pytest.raises(UserError, match="40 x 30; make it smaller"):
        check_picture(tmp_path / "x", 1199)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PPM", "TGA", "ICO"])
def test_others_are_not(tmp_path, kind):
    Image.new("RGB", (40, 40)).save(tmp_path / "x", kind)
    with pytest.raises(UserError, match="is no picture"):
        check_picture(tmp_path / "x", 10_000)


def test_heif_is_one(tmp_path):
    import pillow_heif

    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(tmp_path / "x.heic")
    check_picture(tmp_path / "x.heic", 10_000)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF", "MP3", "CAF", "W64", "RF64", "AU"])
def test_sound_of_common_kinds_is_looked_at(tmp_path, kind):
    soundfile.write(tmp_path / "x", np.zeros(4000), 16000, format=kind)
    check_media(tmp_path / "x")


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "webm", "mpegts", "avi", "adts", "asf", "flv", "ipod"])
def test_videos_of_common_kinds_are_looked_at(tmp_path, container):
    import av

    codec = "libopus" if container == "webm" else "aac"
    with av.open(str(tmp_path / "x"), "w", format=container) as file:
        stream = file.add_stream(codec, rate=48000, layout="mono")
        for number in range(8):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="flt", layout="mono")
            block.sample_rate, block.pts = 48000, 4800 * number
            file.mux(stream.encode(block))
        file.mux(stream.encode())
    check_media(tmp_path / "x")


@pytest.mark.parametrize(
    "start",
    [
        b"", b"#EXTM3U\n", b"ffconcat version 1.0\n", b"<?xml version='1.0'?><MPD>", b"v=0\nc=IN IP4 1.2.3.4\n",
        b"RIFF<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>" + b" " * 60, b"ID3\nc=IN IP4 1.2.3.4\n" + b" " * 60,
        b"1234ftyp" + b"c=IN IP4 1.2.3.4\n" * 9, b"\xff\xd8\xff\xe0\0\x10JFIF",
    ],
)  # fmt: skip
def test_play_lists_and_texts_in_disguise_are_not(tmp_path, start):
    (tmp_path / "x").write_bytes(start)
    with pytest.raises(UserError, match="no sound or video file"):
        check_media(tmp_path / "x")


def test_a_damaged_picture_is_one_line(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    (tmp_path / "x").write_bytes(file.getvalue()[:20])
    with pytest.raises(UserError, match="^x is"):
        check_picture(tmp_path / "x", 10_000)
