import os
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from modules.media.decoding import decode_pictures
from modules.media.video_reader import evenly, of_one_size, open_video
from modules.system.errors import UserError
from tests.media_files import write_film
from tests.videos import counting_frames, levels, write_video

TASKS = Path("/proc/self/task")


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


def taken(times: list[float], rate: int = 25) -> list[int]:
    steps = np.diff(times, append=2 * times[-1] - times[-2])
    return list(evenly([(t, step, k) for k, (t, step) in enumerate(zip(times, steps, strict=True))], rate))


@pytest.mark.parametrize("rate", [25, 50, 75, 100, 125, 24, 30, 30000 / 1001, 48, 60, 90, 120, 144, 240])
@pytest.mark.parametrize("stamp", [1e-7, 1e-3])
def test_every_rate_is_taken_evenly(rate: float, stamp: float):
    numbers = taken([round(k / rate / stamp) * stamp for k in range(round(4 * rate))])
    steps = np.diff(numbers)
    assert len(numbers) == 100 and steps.max() - steps.min() <= 1
    late = np.array(numbers) / rate - np.arange(100) / 25
    assert np.abs(late).max() <= 0.5 / rate + 1e-3  # the nearest


@pytest.mark.parametrize("rate", [1, 5, 10, 12.5, 15, 20])
def test_slow_pictures_are_shown_until_the_next_one_is_due(rate: float):
    numbers = np.array(taken([k / rate for k in range(round(4 * rate))]))
    late = np.arange(len(numbers)) / 25 - numbers / rate
    assert len(numbers) == 100 and late.min() >= -0.02 - 1e-6 and late.max() <= 1 / rate
    assert sorted(set(numbers)) == list(range(round(4 * rate)))


def test_times_that_jitter_do_not_change_what_is_taken():
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 200)
    jitter[0] = 0
    assert taken(list(np.arange(200) / 50 + jitter)) == list(range(0, 200, 2))


def test_pictures_that_change_their_size_come_in_their_own_and_can_be_fitted(tmp_path: Path):
    """A call: a square, then wide, then upright; each with a disc in its middle."""
    rows, columns = np.indices((96, 160))
    frames = []
    for height, width in ((96, 96), (60, 160), (96, 48)):
        y, x = rows[:height, :width] - height / 2 + 0.5, columns[:height, :width] - width / 2 + 0.5
        frames.append(np.repeat((230 * (x**2 + y**2 < 20**2)).astype(np.uint8)[..., None], 3, axis=2))
    parts = [
        write_film(tmp_path / f"{k}.ts", [(0.04 * n, frame) for n in range(5)], codecs=("libx264", ""))
        for k, frame in enumerate(frames)
    ]
    path = tmp_path / "call.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    decoded = list(open_video(path)[1])
    assert [frame.shape[:2] for frame in decoded] == [(96, 96)] * 5 + [(60, 160)] * 5 + [(96, 48)] * 5
    fitted = list(of_one_size(decoded))
    for frame, scale in zip(fitted, [1.0] * 5 + [0.6] * 5 + [1.0] * 5, strict=True):
        y, x = np.nonzero(frame[..., 0] > 115)
        assert frame.shape == (96, 96, 3) and np.ptp(x) == pytest.approx(np.ptp(y), abs=2)  # still round
        assert np.ptp(x) == pytest.approx(39 * scale, abs=2) and x.mean() == pytest.approx(47.5, abs=1)


def test_a_truncated_video_is_used_if_most_of_it_is_there(tmp_path: Path, media: Path):
    with av.open(str(media / "driving" / "talk_man_german_25fps.mp4")) as source:
        with av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": "faststart"}) as output:
            track = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = track
                    output.mux(packet)
    content = (tmp_path / "whole.mp4").read_bytes()
    count = sum(1 for _ in open_video(tmp_path / "whole.mp4")[1])
    (tmp_path / "most.mp4").write_bytes(content[: round(0.8 * len(content))])
    assert 0.6 * count < sum(1 for _ in open_video(tmp_path / "most.mp4")[1]) < 0.9 * count
    (tmp_path / "little.mp4").write_bytes(content[: round(0.3 * len(content))])
    with pytest.raises(UserError, match="little.mp4 is truncated: .* can be read; copy it again"):
        list(open_video(tmp_path / "little.mp4")[1])


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are listed on Linux alone")
def test_readers_that_were_left_keep_no_threads(tmp_path):
    write_video(tmp_path / "v.mp4", counting_frames(4))
    left = []
    for _ in range(4):
        frames = open_video(tmp_path / "v.mp4")[1]
        next(frames)
        left.append((frames, len(list(TASKS.iterdir()))))
    assert (
        left[-1][1] - left[0][1] <= 3 * (os.cpu_count() or 1) + 3
    )  # of the decoders; with scaling 16 a reader and more


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("start, stop", [(0.4, 0.8), (0.4, None), (0.0, 0.2), (0.41, 0.81), (0.93, 5.0)])
def test_a_part_has_the_frames_that_the_whole_has_there(tmp_path: Path, name: str, start: float, stop: float | None):
    pictures = [(0.04 * k, picture) for k, picture in enumerate(counting_frames(25))]
    codecs = ("mpeg4", "pcm_s16le") if name.endswith("avi") else ("libx264", "aac")
    path = write_film(tmp_path / name, pictures, codecs=codecs)
    whole, part = levels(open_video(path)[1]), levels(open_video(path, start=start, stop=stop)[1])
    first = round(25 * start)
    assert part == whole[first : None if stop is None else round(25 * stop)] and len(part) > 0


def test_a_part_of_a_variable_rate_begins_with_what_is_shown_then(tmp_path: Path):
    path = variable_rate_file(tmp_path / "phone.mp4", [0, 40, 200, 210, 220, 400])
    assert levels(islice(open_video(path, start=0.12)[1], 4)) == [1, 1, 2, 4]


def test_a_part_behind_the_end_is_refused(tmp_path: Path):
    path = write_video(tmp_path / "short.mp4", counting_frames(10))
    with pytest.raises(UserError, match="ends before 3.00 s"):
        next(open_video(path, start=3.0, stop=4.0)[1])


def test_what_lies_before_a_part_is_not_decoded(tmp_path: Path):
    frames = counting_frames(20)
    path = write_film(
        tmp_path / "long.mp4", [(0.04 * k, frames[k % 20]) for k in range(200)], codecs=("libx264", "aac")
    )
    times = [frame.time for frame, _ in decode_pictures(path, after=6.0)]
    assert 5.0 < times[0] <= 6.0 and times[-1] == pytest.approx(7.96, abs=1e-3)
