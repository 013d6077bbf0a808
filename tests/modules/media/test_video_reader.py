from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from modules.media.video_reader import open_video, read_sound
from modules.system.errors import UserError
from tests.videos import counting_frames, levels, write_video


def variable_rate_file(path: Path, times_ms: list[int]) -> Path:
    """Frames of counting brightness at given times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(counting_frames(number + 1)[-1], format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_variable_frame_rate_keeps_its_timing(tmp_path: Path):
    path = variable_rate_file(tmp_path / "phone.mp4", [0, 40, 200, 210, 220, 400])
    _, frames = open_video(path)
    assert levels(islice(frames, 11)) == [0, 1, 1, 1, 1, 3, 4, 4, 4, 4, 5]


def test_thirty_frames_a_second_become_twenty_five(tmp_path: Path):
    write_video(tmp_path / "thirty.mp4", counting_frames(24), fps=30)
    info, frames = open_video(tmp_path / "thirty.mp4")
    shown = levels(frames)
    assert info.rate == 30 and len(shown) == 20
    assert np.abs(np.array(shown) - np.arange(20) * 1.2).max() <= 0.7


@pytest.mark.parametrize("angle, matrix, turn", [
    (90, (0, 1, -1, 0), lambda x: np.rot90(x, -1)), (180, (-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    (270, (0, -1, 1, 0), np.rot90)])
def test_a_turned_phone_video_is_shown_upright(tmp_path: Path, angle: int, matrix: tuple[int, ...], turn):
    frame = np.full((48, 64, 3), 60, np.uint8)
    frame[:24, :32] = 220
    path = write_video(tmp_path / f"{angle}.mp4", [frame] * 2)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40                  # the display matrix of a version 0 track header
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[place + offset:place + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    info, frames = open_video(path)
    shown = next(frames)
    expected = turn(frame)
    assert (info.height, info.width) == expected.shape[:2] == shown.shape[:2]
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_reading_holds_few_frames_at_a_time(tmp_path: Path):
    write_video(tmp_path / "long.mp4", [np.zeros((16, 16, 3), np.uint8)] * 500)
    _, frames = open_video(tmp_path / "long.mp4")
    assert sum(1 for _ in islice(frames, 3)) == 3
    frames.close()
    (tmp_path / "long.mp4").unlink()


@pytest.mark.parametrize("content, words", [
    (None, "no file"), ("folder", "folder"), (b"plain text, no video", "cannot be read"),
    ("truncated", "cannot be read|can be decoded"), ("sound", "no video|no picture")])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, media: Path, content, words: str):
    path = tmp_path / "clip.mp4"
    if content == "folder":
        path.mkdir()
    elif content == "truncated":
        path.write_bytes(write_video(tmp_path / "whole.mp4", counting_frames(5)).read_bytes()[:900])
    elif content == "sound":
        path.write_bytes((media / "speech" / "en_24k_mono.wav").read_bytes())
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        open_video(path)
    assert "\n" not in str(caught.value)


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
    assert len(beside) == 4000 + 8000 * late and not beside[:round(8000 * late)].any()
    assert np.array_equal(beside[round(8000 * late):], alone)


def test_a_video_without_sound_gives_none_or_an_error(tmp_path: Path):
    path = write_video(tmp_path / "mute.mp4", counting_frames(3))
    assert read_sound(path, optional=True) is None
    with pytest.raises(UserError, match="no sound track"):
        read_sound(path)


def test_real_clips_and_speech_have_their_length(media: Path):
    info, frames = open_video(media / "driving" / "expressions_man_30fps.mp4")
    assert sum(1 for _ in frames) == 125 and info.rate == 30 and info.has_sound
    sound = read_sound(media / "speech" / "fr_48k_24bit_stereo.wav")
    samples = sound.samples()
    assert sound.rate == 48000 and samples.shape[1] == 2
    assert len(samples) / 48000 == pytest.approx(6.72, abs=0.01) and np.abs(samples).max() <= 1
