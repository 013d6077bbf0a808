"""A stream of fragments: what has come so far can be played, and all of it has every frame and the whole sound."""

import io

import av
import numpy as np
import pytest

from modules.media.fragment_writer import FragmentWriter


def frame(number: int) -> np.ndarray:
    """A picture that gets brighter from 0 to 99."""
    return np.full((64, 96, 3), 2 * number + 20, np.uint8)


def tone(first: int, count: int, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(first, first + count) / rate)).astype(np.float32)


def decoded(data: bytes) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Frames, sound [n] and its rate."""
    with av.open(io.BytesIO(data)) as container:
        pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.audio[0].rate
        sound = np.concatenate([block.to_ndarray()[0] for block in container.decode(audio=0)])
    return pictures, sound, rate


@pytest.mark.parametrize("rate", [16000, 48000, 11025])
def test_all_frames_and_the_sound_are_in_the_fragments(rate):
    writer = FragmentWriter((96, 64), rate)
    per_frame = rate // 25
    parts = [
        writer.write([frame(k) for k in range(start, start + 4)], tone(start * per_frame, 4 * per_frame, rate))
        for start in range(0, 100, 4)
    ]
    data = b"".join(parts) + writer.finish()
    pictures, sound, found = decoded(data)
    assert len(pictures) == 100 and all(abs(int(p.mean()) - 2 * k - 20) < 4 for k, p in enumerate(pictures))
    assert len(sound) / found == pytest.approx(4, abs=0.15)
    middle = sound[found : 2 * found]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    assert data.count(b"moof") >= 8 and data[4:8] == b"ftyp" and b"synthetic" in data.lower()


def test_bytes_come_while_frames_do_and_what_has_come_can_be_played():
    writer = FragmentWriter((96, 64), 16000)
    assert writer.mime.startswith('video/mp4; codecs="avc1.4d') and "mp4a.40.2" in writer.mime
    parts = [writer.write([frame(k)], tone(640 * k, 640, 16000)) for k in range(50)]
    early = b"".join(parts[:25])
    pictures, _, _ = decoded(early)
    assert 15 <= len(pictures) <= 25  # of the 25 that had come
    whole, _, _ = decoded(b"".join(parts) + writer.finish())
    assert len(whole) == 50
