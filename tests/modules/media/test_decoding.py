import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from modules.media.audio import read_mono, read_sound
from modules.media.decoding import decode_pictures, decode_sound, first_picture_time
from modules.media.video_reader import open_video
from modules.system.errors import UserError
from tests.media_files import click_times, clicks, pieces, sound_frame, write_film, write_sound
from tests.videos import counting_frames, levels

RATE = 48_000
SECONDS = 1.0
AAC = ("libx264", "aac")


def film(path: Path, options: dict[str, str] | None = None, codecs: tuple[str, str] = AAC) -> Path:
    """A second of counting pictures with clicks at 0.25 and 0.75 s."""
    pictures = [(0.04 * k, picture) for k, picture in enumerate(counting_frames(25))]
    return write_film(path, pictures, pieces(clicks(SECONDS, RATE), RATE), RATE, codecs, options)


def heard(path: Path) -> list[float]:
    sound = read_sound(path)
    return click_times(sound.samples(), sound.rate)


def seen(path: Path) -> list[int]:
    return levels(open_video(path)[1])


def damaged(path: Path, kind: str, numbers: list[int]) -> Path:
    """The file with packets overwritten."""
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(**{kind: 0}) if p.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        position, size = places[number]
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov", "flv"])
def test_sound_and_pictures_are_where_the_file_has_them(tmp_path, suffix):
    path = film(tmp_path / f"a.{suffix}")
    assert seen(path) == list(range(25)) and heard(path) == pytest.approx([0.25, 0.75], abs=0.005)


@pytest.mark.parametrize("start", ["0", "95443.2", "50000"])  # the second passes 2^33 ticks within the file
def test_transport_streams_that_were_joined_go_on(tmp_path, start):
    first, second = film(tmp_path / "a.ts"), film(tmp_path / "b.ts", {"output_ts_offset": start})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    assert seen(joined) == [*range(25)] * 3
    assert heard(joined) == pytest.approx([0.25, 0.75, 1.25, 1.75, 2.25, 2.75], abs=0.012)
    assert seen(second) == [*range(25)] and heard(second) == pytest.approx([0.25, 0.75], abs=0.005)


def test_bad_packets_are_left_out_and_counted_once(tmp_path, caplog):
    path = damaged(film(tmp_path / "a.mp4"), "audio", [20, 21, 40])
    with caplog.at_level(logging.WARNING):
        assert heard(path) == pytest.approx([0.25, 0.75], abs=0.005)
        read_sound(path).samples()
    [record] = [r for r in caplog.records if "sound" in r.getMessage()]
    assert record.getMessage() == "note: a.mp4: 3 damaged pieces of its sound left out"
    path = damaged(film(tmp_path / "b.mp4"), "video", [12])
    with caplog.at_level(logging.WARNING):
        numbers = seen(path)
    assert len(numbers) == 25 and numbers[:8] == list(range(8))
    assert "b.mp4: 1 damaged piece of its pictures" in caplog.text


def test_a_file_of_nothing_but_bad_packets_is_refused(tmp_path):
    path = damaged(film(tmp_path / "a.mp4"), "video", list(range(25)))
    with pytest.raises(UserError, match="no picture that can be decoded"):
        open_video(path)
    path = damaged(film(tmp_path / "b.mp4"), "audio", list(range(48)))
    with pytest.raises(UserError, match="no sound that can be decoded"):
        read_sound(path)


def test_an_avi_of_b_frames_shows_them_in_order_from_the_start(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.max_b_frames = 3
        for number, picture in enumerate(counting_frames(25)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    assert seen(path) == list(range(25)) and first_picture_time(path) == 0


def test_raw_pictures_without_times_are_counted(tmp_path):
    path = film(tmp_path / "a.mkv")
    raw = tmp_path / "a.h264"
    with av.open(str(path)) as container, av.open(str(raw), "w", format="h264") as output:
        track = output.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)
    assert seen(raw) == list(range(25))


def test_joined_mp3_files_of_other_rates_are_read_to_the_end(tmp_path):
    parts = []
    for rate in (24_000, 44_100, 16_000):
        values = (clicks(1.0, rate) / 2**15).astype(np.float32)
        parts.append(write_sound(tmp_path / f"{rate}.mp3", values, rate, "libmp3lame", "fltp").read_bytes())
    (tmp_path / "joined.mp3").write_bytes(b"".join(parts))
    wave = read_mono(tmp_path / "joined.mp3", 16_000)
    assert len(wave) / 16_000 == pytest.approx(3.0, abs=0.3)
    found = click_times(wave, 16_000)
    assert len(found) == 6 and np.allclose(np.diff(found), 0.5, atol=0.1)


def test_the_cover_of_a_song_is_no_picture(tmp_path):
    song, values = tmp_path / "song.mp4", (clicks(1.0, RATE) / 2**15).astype(np.float32)
    with av.open(str(song), "w") as container:
        track, cover = container.add_stream("aac", rate=RATE, layout="mono"), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(counting_frames(1)[0], format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        container.mux(track.encode(sound_frame(values, RATE, 0.0, "fltp", "mono")))
        container.mux([*cover.encode(frame), *cover.encode(), *track.encode()])
    assert first_picture_time(song) is None and len(heard(song)) == 2
    with pytest.raises(UserError, match="no video"):
        open_video(song)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match="no video in it"):
        next(decode_pictures(write_sound(tmp_path / "a.wav", clicks(0.2), 16_000)))
    with pytest.raises(UserError, match="no sound track"):
        next(decode_sound(write_film(tmp_path / "a.mkv", [(0.0, counting_frames(1)[0])])))
