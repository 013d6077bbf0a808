import av
import numpy as np
import pytest

from modules.media.audio import read_mono, read_sound
from modules.media.decoding import decode_sound
from modules.media.samples import FORMATS, frame_samples, mix_to_stereo, mixed
from tests.media_files import sound_frame, write_sound

RATE = 16_000
LAYOUTS = ["mono", "stereo", "2.1", "quad", "5.0", "5.1", "5.1(side)", "7.1", "7.1(wide)", "hexadecagonal", "22.2"]


def names(layout: str) -> tuple[str, ...]:
    return tuple(channel.name for channel in av.AudioLayout(layout).channels)


def ramp(channels: int, count: int = 400) -> np.ndarray:
    """Each channel its own line, in [-0.9, 0.9]: [count, channels]."""
    return np.linspace(-0.9, 0.9, count)[:, None] * (1 + np.arange(channels)) / channels


def as_format(values: np.ndarray, format: str) -> np.ndarray:
    kind, silence, full = FORMATS[format.removesuffix("p")]
    return (values * full + silence).astype(kind)


@pytest.mark.parametrize("format", ["u8", "s16", "s32", "flt", "dbl", "s64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9, 16, 64])
@pytest.mark.parametrize("planar", ["", "p"])
def test_every_format_of_any_number_of_channels_is_the_same_sound(format, channels, planar):
    values = ramp(channels)
    frame = sound_frame(as_format(values, format), RATE, 0.0, format + planar, f"{channels} channels")
    samples = frame_samples(frame)
    assert samples.dtype == np.float32 and samples.shape == values.shape
    assert np.abs(samples - values).max() < (0.01 if format == "u8" else 1e-4)


@pytest.mark.parametrize("layout", [*LAYOUTS, "ambisonic 1", "1 channels", "7 channels", "64 channels"])
def test_a_mix_never_exceeds_the_full_range_and_keeps_the_speech(layout):
    own = names(layout)
    loud = np.ones((5, len(own)), np.float32)
    for channels in (1, 2):
        assert np.allclose(mixed(loud, own, channels), 1.0)
    if len(own) > 2:
        assert (mix_to_stereo(own) >= 0).all()


def test_left_is_left_and_the_middle_is_both():
    weights = dict(zip(names("7.1"), mix_to_stereo(names("7.1")), strict=True))
    for name in ("FL", "BL", "SL"):
        assert weights[name][0] > 0 == weights[name][1]
        assert weights[name.replace("L", "R")][1] == weights[name][0]
    assert weights["FC"][0] == weights["FC"][1] > 0 and not weights["LFE"].any()
    assert weights["FL"][0] == pytest.approx(weights["BL"][0] * 2**0.5)


def test_stereo_stays_and_mono_is_doubled():
    stereo = ramp(2).astype(np.float32)
    assert mixed(stereo, names("stereo"), 2) is stereo
    assert np.allclose(mixed(stereo, names("stereo"), 1)[:, 0], stereo.mean(1))
    assert np.array_equal(mixed(stereo[:, :1], names("mono"), 2), np.repeat(stereo[:, :1], 2, axis=1))


FILES = {
    "m4a": ("aac", "fltp"),
    "mp4": ("alac", "s16p"),
    "flac": ("flac", "s16"),
    "mka": ("libopus", "flt"),
    "wav": ("pcm_s24le", "s32"),
    "w64": ("pcm_f64le", "dbl"),
    "mov": ("pcm_s16be", "s16"),
    "avi": ("pcm_u8", "u8"),
}


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("layout", ["7.1", "5.1", "stereo", "mono"])
def test_files_of_many_channels_are_read(tmp_path, suffix, layout):
    codec, format = FILES[suffix]
    layout = "7.1(wide)" if codec == "alac" and layout == "7.1" else layout
    tone = 0.4 * np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000)
    values = np.repeat(tone[:, None], len(names(layout)), axis=1)
    path = write_sound(tmp_path / f"a.{suffix}", as_format(values, format), 48_000, codec, format, layout)
    sound, wave = read_sound(path), read_mono(path, RATE)
    assert sound.rate == 48_000 and sound.samples().shape[1] == min(len(names(layout)), 2)
    assert abs(len(wave) - RATE) < 1100
    spectrum = np.abs(np.fft.rfft(wave[4000:12_000])) / 4000  # a line for every 2 Hz
    assert spectrum.argmax() == 150 and spectrum[150] == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("channels", [1, 3, 8, 11, 33, 64])
def test_wav_files_of_unknown_layout_are_the_mean_of_their_channels(tmp_path, channels):
    values = np.zeros((8000, channels))
    values[:, channels // 2] = 0.5
    path = write_sound(tmp_path / "a.wav", as_format(values, "s16"), RATE, layout=f"{channels} channels")
    wave = read_mono(path, RATE)
    assert len(wave) == 8000 and np.allclose(wave, 0.5 / channels, atol=1e-4)


@pytest.mark.parametrize("tag", [122, 123, 124])
def test_a_mov_that_lists_its_channels_in_another_order_is_read(tmp_path, tag):
    """PyAV ends the process when it decodes such a file by itself."""
    values, middle = np.zeros((4800, 6)), {122: 4, 123: 1, 124: 0}[tag]  # L R Ls Rs C LFE; L C R ...; C L R ...
    values[:, middle] = 0.5
    path = write_sound(tmp_path / "a.mov", as_format(values, "s16"), 48_000, layout="5.1")
    content = bytearray(path.read_bytes())
    at = content.index(b"chan") + 8
    content[at : at + 4] = (tag << 16 | 6).to_bytes(4, "big")
    path.write_bytes(content)
    samples = read_sound(path).samples()
    assert next(decode_sound(path))[1][middle] == "FC"
    assert samples.shape == (4800, 2) and np.allclose(samples[:, 0], samples[:, 1]) and samples.min() > 0.1
