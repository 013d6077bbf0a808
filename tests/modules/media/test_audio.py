from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from scipy.ndimage import uniform_filter1d

from modules.media.audio import AGREE, Sound, read_mono, read_sound
from modules.media.decoding import decode_sound
from modules.system.errors import UserError
from tests.media_files import click_times, clicks, pieces, sound_frame, write_film
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


def film_of(path: Path, sound: list[tuple[float, np.ndarray]], first_picture: float = 0.0) -> Path:
    """Two seconds of pictures beside the sound."""
    pictures = [(first_picture + 0.04 * k, picture) for k, picture in enumerate(counting_frames(25) * 2)]
    return write_film(path, pictures, sound)


def heard(path: Path, beside_pictures: bool = True) -> list[float]:
    sound = read_sound(path, beside_pictures=beside_pictures)
    return click_times(sound.samples(), sound.rate)


@pytest.mark.parametrize("beside_pictures", [True, False])
@pytest.mark.parametrize("begin, end", [(0.4, 1.1), (0.3, 0.32), (0.8, 1.24)])
def test_a_gap_between_packets_is_silence_of_its_length(
    tmp_path: Path, beside_pictures: bool, begin: float, end: float
):
    kept = [piece for piece in pieces(clicks(2.0)) if not begin - 1e-6 <= piece[0] < end - 1e-6]
    path = film_of(tmp_path / "a.mkv", kept)
    expected = [t for t in (0.25, 0.75, 1.25, 1.75) if not begin <= t < end]
    assert heard(path, beside_pictures) == pytest.approx(expected, abs=0.002)
    samples = read_sound(path).samples()
    assert len(samples) == 32_000 and not samples[int(16_000 * begin) : int(16_000 * end)].any()


def test_packets_that_overlap_are_cut_to_what_is_new(tmp_path: Path):
    track = pieces(clicks(2.0))
    path = film_of(tmp_path / "a.mkv", track[:50] + [(t - 0.2, s) for t, s in track[50:]])
    assert heard(path) == pytest.approx([0.25, 0.75, 1.05, 1.55], abs=0.002)


@pytest.mark.parametrize("late", [0.5, 0.013, -0.3])
def test_sound_beside_pictures_begins_when_the_first_of_them_is_shown(tmp_path: Path, late: float):
    path = film_of(tmp_path / "a.mkv", [(t + max(late, 0), s) for t, s in pieces(clicks(2.0))], max(-late, 0))
    expected = [t + late for t in (0.25, 0.75, 1.25, 1.75) if t + late > 0]
    assert heard(path) == pytest.approx(expected, abs=0.002)
    assert heard(path, beside_pictures=False) == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.002)


def test_stamps_that_jitter_move_nothing_and_a_gap_among_them_is_kept(tmp_path: Path):
    jitter = np.random.default_rng(1).uniform(-0.008, 0.008, 100)
    track = [(max(t + j, 0.0), s) for (t, s), j in zip(pieces(clicks(2.0)), jitter, strict=True)]
    track.sort(key=lambda piece: piece[0])
    whole = read_sound(film_of(tmp_path / "a.mkv", track)).samples()
    assert np.abs(whole[:31_000] - clicks(2.0)[:31_000] / 2**15).max() < 1e-3
    path = film_of(tmp_path / "b.mkv", track[:20] + track[25 + AGREE :])
    assert heard(path) == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.02)


def test_a_clock_that_runs_slow_is_followed(tmp_path: Path):
    """The sound card gives 1 % too few samples; after two seconds that is 20 ms."""
    path = film_of(tmp_path / "a.mkv", [(1.01 * t, s) for t, s in pieces(clicks(2.0))])
    assert heard(path) == pytest.approx([1.01 * t for t in (0.25, 0.75, 1.25, 1.75)], abs=0.012)


@pytest.mark.parametrize("layouts", [("mono", "stereo"), ("stereo", "mono"), ("5.1", "mono"), ("mono", "5.1")])
@pytest.mark.parametrize("rates", [(16_000, 16_000), (16_000, 48_000), (44_100, 22_050)])
def test_channels_and_rate_may_change_in_the_middle(tmp_path: Path, layouts, rates):
    content = b""
    for layout, rate in zip(layouts, rates, strict=True):
        path = tmp_path / "part.aac"
        with av.open(str(path), "w", format="adts") as container:
            track = container.add_stream("aac", rate=rate, layout=layout, bit_rate=256_000)
            values = np.repeat((clicks(1.0, rate) / 2**15).astype(np.float32), track.layout.nb_channels, axis=1)
            container.mux(track.encode(sound_frame(values, rate, 0.0, "fltp", layout)))
            container.mux(track.encode())
        content += path.read_bytes()
    joined = tmp_path / "joined.aac"
    joined.write_bytes(content)
    sound = read_sound(joined)
    assert sound.rate == rates[0] and sound.samples().shape[1] == (1 if layouts[0] == "mono" else 2)
    wave = read_mono(joined, 16_000)
    assert len(wave) / 16_000 == pytest.approx(2.0, abs=0.35)  # each part is a whole number of blocks, and a delay
    found = click_times(wave, 16_000)
    assert len(found) == 4 and found[1] - found[0] == found[3] - found[2] == pytest.approx(0.5, abs=0.005)


def test_a_long_gap_is_handed_over_in_small_blocks(tmp_path: Path):
    track = pieces(clicks(1.0))
    path = write_film(tmp_path / "a.mkv", [(0.0, counting_frames(1)[0])], track + [(t + 90, s) for t, s in track])
    blocks = list(read_sound(path).blocks())
    assert max(map(len, blocks)) <= 16_000 and sum(map(len, blocks)) == 91 * 16_000


def test_a_title_in_any_encoding_does_not_matter(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", counting_frames(3), tone(0.12))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Synthetic", b"\xe9ynthetic"))
    assert read_sound(path).rate


@pytest.mark.parametrize("name, codecs", [("a.mp4", "aac"), ("a.mkv", "pcm_s16le"), ("a.avi", "pcm_s16le")])
@pytest.mark.parametrize("after", [0.1, 3.37, 7.0])
def test_a_part_has_the_samples_that_the_whole_has_there(tmp_path: Path, name: str, codecs: str, after: float):
    pictures = [(0.04 * k, picture) for k, picture in enumerate(counting_frames(25) * 8)]
    steps = np.random.default_rng(0).normal(0, 3000, 8 * 16000).cumsum()
    waves = (steps - uniform_filter1d(steps, 200)).clip(-30000, 30000).astype(np.int16)
    sound = pieces(waves[:, None], seconds=0.064)  # AAC: 1024 samples
    path = write_film(tmp_path / name, pictures, sound, codecs=("mpeg4", codecs))
    whole, part = read_sound(path).samples(), read_sound(path, after=after).samples()
    expected = whole[round(after * 16000) :]
    assert len(part) == pytest.approx(len(expected), abs=1)
    assert np.abs(part[:8000] - expected[: len(part)][:8000]).max() < 0.02 and np.abs(part).max() > 0.3


def test_sound_before_a_part_is_not_decoded(tmp_path: Path):
    pictures = [(0.04 * k, picture) for k, picture in enumerate(counting_frames(25) * 8)]
    sound = pieces(clicks(8.0), seconds=0.064)
    path = write_film(tmp_path / "a.mp4", pictures, sound, codecs=("mpeg4", "aac"))
    times = [frame.time for frame, _ in decode_sound(path, after=6.0)]
    assert 4.0 < times[0] < 6.0 and times[-1] > 7.8


def test_a_part_of_a_file_without_times_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", speech_like(), 16000)
    with pytest.raises(ValueError, match="states no times"):
        read_sound(tmp_path / "a.wav", after=0.5)
