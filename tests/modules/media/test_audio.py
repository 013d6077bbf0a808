from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from modules.media.audio import Sound, read_mono, read_sound
from modules.system.errors import UserError
from tests.videos import counting_frames, tone, write_video


def speech_like(seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(16000 * seconds)) / 16000
    return 0.2 * np.sin(2 * np.pi * 150 * t + 3 * np.sin(2 * np.pi * 150 * t)) * (np.sin(2 * np.pi * t) > 0)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_any_format_is_known_by_its_content(tmp_path, kind):
    soundfile.write(tmp_path / f"a.{kind}", speech_like(), 16000)
    disguised = (tmp_path / f"a.{kind}").rename(tmp_path / "speech.MP3")
    wave = read_mono(disguised, 16000)
    assert wave.dtype == np.float32 and abs(len(wave) - 16000) < 400
    assert np.corrcoef(wave[:15600], speech_like()[:15600])[0, 1] > 0.9


def test_rate_channels_and_sample_width_are_converted(tmp_path):
    t = np.arange(48000) / 48000
    left = 0.4 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros(48000)], axis=1), 48000, subtype="PCM_24")
    wave = read_mono(tmp_path / "a.wav", 16000)
    assert len(wave) == 16000
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)  # mean of both channels
    assert np.abs(wave - expected)[100:-100].max() < 1e-3


def test_the_sound_of_a_video_is_read(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        video, audio = container.add_stream("mpeg4", 25), container.add_stream("aac", 16000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(speech_like()[None].astype(np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    assert abs(len(read_mono(tmp_path / "v.mp4", 16000)) - 16000) < 3000


def test_files_that_are_no_speech_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, speech_like(2.0), 16000)
    cases = {"empty.wav": b"", "text.wav": b"this is no sound at all\n" * 50, "cut.wav": whole.read_bytes()[:20000]}
    words = {"empty.wav": "is empty", "text.wav": "cannot be read", "cut.wav": "truncated"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words[name]) as error:
            read_mono(tmp_path / name, 16000)
        assert name in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no file"):
        read_mono(tmp_path / "missing.wav", 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="not numbers"):
        read_mono(tmp_path / "nan.wav", 16000)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_a_sound_begins_with_the_pictures_or_with_its_own_first_sample(tmp_path: Path, late: float):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25)
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        pictures.width, pictures.height = 64, 48
        for number, values in enumerate(counting_frames(20)):
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        frame = av.AudioFrame.from_ndarray(np.full((1, 4000), 8192, np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, round(8000 * late), Fraction(1, 8000)
        container.mux([*sound.encode(frame), *pictures.encode(), *sound.encode()])
    alone, beside = (read_sound(path, beside_pictures=choice).samples()[:, 0] for choice in (False, True))
    assert len(alone) == 4000 and np.abs(alone - 0.25).max() < 1e-3
    assert len(beside) == 4000 + 8000 * late and not beside[: round(8000 * late)].any()
    assert np.array_equal(beside[round(8000 * late) :], alone)


def test_a_video_without_sound_gives_none_or_an_error(tmp_path: Path):
    path = write_video(tmp_path / "mute.mp4", counting_frames(3))
    assert read_sound(path, optional=True) is None
    with pytest.raises(UserError, match="no sound track"):
        read_sound(path)


def test_a_sound_says_how_long_its_file_claims_to_be(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", speech_like(1.5), 16000)
    assert read_sound(tmp_path / "a.wav").seconds == pytest.approx(1.5)
    assert Sound.from_samples(np.zeros(5), 10).seconds is None


def test_a_mix_is_the_mean_of_the_channels_at_the_rate_asked_for(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", counting_frames(25), tone(1.0, 48_000, channels=2))
    wave = read_mono(path, 16_000)
    assert abs(len(wave) - 16_000) < 800 and np.abs(wave).max() == pytest.approx(0.5, abs=0.05)


def test_real_speech_has_its_length(media: Path):
    sound = read_sound(media / "speech" / "fr_48k_24bit_stereo.wav")
    samples = sound.samples()
    assert sound.rate == 48000 and samples.shape[1] == 2
    assert len(samples) / 48000 == pytest.approx(6.72, abs=0.01) and np.abs(samples).max() <= 1
