import logging
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from modules.media.audio import read_mono, read_sound
from modules.media.container import open_media
from modules.media.stated_length import check_length, stated_seconds
from modules.system.errors import UserError
from tests.media_files import clicks, pieces, write_film, write_sound
from tests.videos import counting_frames

RATE = 16_000


def wav(path: Path, seconds: float = 2.0, size: int | None = None, keep: float = 1.0) -> Path:
    """A WAV file that states `size` bytes of sound, of which the share `keep` is there."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(clicks(seconds).tobytes())
    content = bytearray(path.read_bytes())
    if size is not None:
        content[4:8], content[40:44] = struct.pack("<I", min(size + 36, 0xFFFFFFFF)), struct.pack("<I", size)
    path.write_bytes(content[: round(keep * len(content))])
    return path


def stated(path: Path) -> float | None:
    with open_media(path) as container:
        return stated_seconds(path, container, container.streams[0])


@pytest.mark.parametrize("size", [0, 2_000_000_000, 0x7FFFF000, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
def test_the_length_of_a_wav_file_from_a_pipe_is_what_can_be_read(tmp_path, size):
    path = wav(tmp_path / "a.wav", size=size)
    assert stated(path) is None and len(read_mono(path, RATE)) == 2 * RATE


@pytest.mark.parametrize("keep, said", [(1.0, ""), (0.97, ""), (0.8, "truncated, 1.6 s of 2.0 s"), (0.4, "truncated")])
def test_a_file_that_is_surely_truncated_is_used_if_half_of_it_is_there(tmp_path, caplog, keep, said):
    path = wav(tmp_path / "a.wav", keep=keep)
    assert stated(path) == pytest.approx(2.0)
    if keep < 0.5:
        with pytest.raises(UserError, match="truncated: 0.8 s of 2.0 s can be read"):
            read_mono(path, RATE)
        return
    with caplog.at_level(logging.WARNING):
        assert len(read_mono(path, RATE)) == pytest.approx(2 * RATE * keep, abs=50)
        read_mono(path, RATE)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == bool(said) and all(said in message for message in messages)  # once


def test_only_headers_that_count_are_believed(tmp_path):
    values = clicks(2.0, 48_000)
    real = (values / 2**15).astype(np.float32)
    assert stated(write_sound(tmp_path / "a.m4a", real, 48_000, "aac", "fltp")) == pytest.approx(2.0, abs=0.05)
    for suffix, codec, samples, format in (
        ("aac", "aac", real, "fltp"),
        ("mp3", "libmp3lame", real, "fltp"),
        ("mka", "pcm_s16le", values, "s16"),
        ("flac", "flac", values, "s16"),
    ):
        assert stated(write_sound(tmp_path / f"a.{suffix}", samples, 48_000, codec, format)) is None
    film = write_film(
        tmp_path / "a.mkv", [(0.04 * k, p) for k, p in enumerate(counting_frames(25))], pieces(clicks(0.4))
    )
    assert stated(film) is None and read_sound(film).seconds is None


def test_a_compressed_wav_file_states_nothing(tmp_path):
    path = write_sound(tmp_path / "a.wav", clicks(1.0), RATE, "adpcm_ima_wav", "s16p")
    assert stated(path) is None and len(read_mono(path, RATE)) == pytest.approx(RATE, abs=1100)


def test_a_length_that_nobody_stated_is_right():
    check_length(Path("a.mp3"), 0.1, None)
    check_length(Path("a.wav"), 0.95, 1.0)
