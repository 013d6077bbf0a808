"""Sound read from video and sound files, decoded as it is consumed, with PyAV alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from av.error import FFmpegError

from modules.media.container import open_media
from modules.system.errors import UserError

BLOCK = 4096  # samples handed over at once


@dataclass(frozen=True)
class Sound:
    """A sound that is read when it is needed.

    Attributes:
        rate: samples a second.
        blocks: a function that gives the samples from the start, pieces [n, C] float32 in [-1, 1], C = 1 or 2.
        seconds: length that the file claims; None if it claims none.
    """

    rate: int
    blocks: Callable[[], Iterator[np.ndarray]]
    seconds: float | None = None

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int) -> "Sound":
        """A sound in memory: samples [N] or [N, C] in [-1, 1], `rate` of them a second."""
        columns = np.asarray(samples, np.float32).reshape(len(samples), -1)
        return cls(rate, lambda: (columns[i : i + BLOCK] for i in range(0, len(columns), BLOCK)))

    def samples(self) -> np.ndarray:
        """The whole sound: [N, C] float32 in [-1, 1], C = 1 or 2."""
        pieces = list(self.blocks())
        return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.float32)


def read_mono(path: Path, rate: int) -> np.ndarray:
    """A file's whole sound, from its own first sample on -> [N] float32 in [-1, 1], `rate` samples a second.

    Channels are mixed to their mean, more than two of them after FFmpeg's mix to stereo.

    Raises:
        UserError: what `read_sound` refuses; or the file is truncated, holds no sound, or samples that are not numbers.
    """
    path = Path(path)
    sound = read_sound(path, beside_pictures=False)
    wave = sound.samples().mean(axis=1, dtype=np.float32)
    if len(wave) == 0:
        raise UserError(f"{path} holds no sound; give a file with speech")
    seconds = len(wave) / sound.rate
    if sound.seconds is not None and seconds < 0.9 * sound.seconds - 0.1:
        raise UserError(f"{path} is truncated: {seconds:.1f} s of {sound.seconds:.1f} s can be read; copy it again")
    if not np.isfinite(wave).all():
        raise UserError(f"{path} holds samples that are not numbers; convert it again")
    if sound.rate != rate:
        wave = soxr.resample(wave, sound.rate, rate, quality="HQ")
    return np.ascontiguousarray(wave, dtype=np.float32)


def read_sound(path: Path, optional: bool = False, beside_pictures: bool = True) -> Sound | None:
    """The sound track of an audio or video file at its own rate, mono or stereo.

    Args:
        path: any file that FFmpeg reads.
        optional: give None instead of an error when there is no sound track.
        beside_pictures: start at the file's first picture; False: at its own first sample.
    Raises:
        UserError: no such file, not a media file, no sound track, or (while reading) it is damaged.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            if optional:
                return None
            raise UserError(f"{path.name} has no sound track; use a file with speech")
        stream = container.streams.audio[0]
        rate, channels = stream.rate, stream.channels
        offset = _sound_offset(container) if beside_pictures else 0.0
        seconds = _claimed_seconds(path, container, stream)
    return Sound(rate, lambda: _sound_blocks(path, rate, min(channels, 2), offset), seconds)


def _sound_offset(container: av.container.InputContainer) -> float:
    """Seconds from the first picture to the first sound; 0 where there is no picture."""
    if not container.streams.video:
        return 0.0
    sound, picture = (
        float((stream.start_time or 0) * stream.time_base)
        for stream in (container.streams.audio[0], container.streams.video[0])
    )
    return sound - picture


def _sound_blocks(path: Path, rate: int, channels: int, offset: float) -> Iterator[np.ndarray]:
    resampler = av.AudioResampler(format="flt", layout="mono" if channels == 1 else "stereo", rate=rate)
    skip = max(-round(offset * rate), 0)
    if offset > 0:
        yield np.zeros((round(offset * rate), channels), np.float32)
    with open_media(path) as container:
        try:
            for frame in _then_none(container.decode(container.streams.audio[0])):
                for piece in resampler.resample(frame):
                    samples = piece.to_ndarray().reshape(-1, channels)
                    if skip < len(samples):
                        yield samples[skip:]
                    skip = max(skip - len(samples), 0)
        except (FFmpegError, OSError, ValueError, IndexError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"the sound of {path.name} is damaged ({reason}); save it again") from error


def _then_none(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame | None]:
    """The frames, then None, which tells a resampler to hand out what it holds."""
    yield from frames
    yield None


def _claimed_seconds(path: Path, container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """The length that the header states; for WAV its own, because FFmpeg cuts that to the file's size."""
    with path.open("rb") as file:
        head = file.read(65536)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _claimed_wav_seconds(head)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _claimed_wav_seconds(head: bytes) -> float | None:
    """Size of the data chunk over the rate of the format chunk; None if it was written to a pipe and not known."""
    position, bytes_a_second = 12, 0
    while position + 8 <= len(head):
        name, size = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
        if name == b"fmt ":
            bytes_a_second = int.from_bytes(head[position + 16 : position + 20], "little")
        if name == b"data":
            known = bytes_a_second and 0 < size < 0x7FFFFFFF
            return size / bytes_a_second if known else None
        position += 8 + size + size % 2
    return None
