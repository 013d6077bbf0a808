from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from modules.media.video_reader import open_video
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
    assert levels(islice(frames, 11)) == [0, 1, 1, 1, 1, 2, 4, 4, 4, 4, 5]


def test_thirty_frames_a_second_become_twenty_five(tmp_path: Path):
    write_video(tmp_path / "thirty.mp4", counting_frames(24), fps=30)
    info, frames = open_video(tmp_path / "thirty.mp4")
    decoded = levels(frames)
    assert info.rate == 30 and len(decoded) == 20
    assert np.abs(np.array(decoded) - np.arange(20) * 1.2).max() <= 0.7


@pytest.mark.parametrize(
    "angle, matrix, turn",
    [
        (90, (0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        (180, (-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        (270, (0, -1, 1, 0), np.rot90),
    ],
)
def test_a_turned_phone_video_is_shown_upright(tmp_path: Path, angle: int, matrix: tuple[int, ...], turn):
    frame = np.full((48, 64, 3), 60, np.uint8)
    frame[:24, :32] = 220
    path = write_video(tmp_path / f"{angle}.mp4", [frame] * 2)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # the display matrix of a version 0 track header
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[start + offset : start + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    info, frames = open_video(path)
    decoded = next(frames)
    expected = turn(frame)
    assert (info.height, info.width) == expected.shape[:2] == decoded.shape[:2]
    assert np.abs(decoded.astype(int) - expected).mean() < 6


def test_reading_holds_few_frames_at_a_time(tmp_path: Path):
    write_video(tmp_path / "long.mp4", [np.zeros((16, 16, 3), np.uint8)] * 500)
    _, frames = open_video(tmp_path / "long.mp4")
    assert sum(1 for _ in islice(frames, 3)) == 3
    frames.close()
    (tmp_path / "long.mp4").unlink()


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no file"),
        ("folder", "folder"),
        (b"plain text, no video", "cannot be read"),
        ("truncated", "cannot be read|can be decoded"),
        ("sound", "no video|no picture"),
    ],
)
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


def test_a_real_clip_has_its_length(media: Path):
    info, frames = open_video(media / "driving" / "expressions_man_30fps.mp4")
    assert sum(1 for _ in frames) == 125 and info.rate == 30 and info.has_sound
