"""Frames and sound out of video and sound files, decoded as they are consumed, with PyAV alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError

BLOCK = 4096                  # samples handed over at once


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        width, height: pixels as shown (upright, square pixels).
        rate: frames a second in the file, on average.
        seconds: length, None if the file does not say.
        has_sound: whether there is a sound track.
    """

    width: int
    height: int
    rate: float
    seconds: float | None
    has_sound: bool


@dataclass(frozen=True)
class Sound:
    """A sound that is read when it is needed.

    Attributes:
        rate: samples a second.
        blocks: gives the samples from the start, pieces [n, C] float32 in [-1, 1], C = 1 or 2.
    """

    rate: int
    blocks: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def from_samples(cls, samples: np.ndarray, rate: int) -> "Sound":
        """A sound in memory: samples [N] or [N, C] in [-1, 1]."""
        columns = np.asarray(samples, np.float32).reshape(len(samples), -1)
        return cls(rate, lambda: (columns[i:i + BLOCK] for i in range(0, len(columns), BLOCK)))

    def samples(self) -> np.ndarray:
        """All of it: [N, C] float32."""
        pieces = list(self.blocks())
        return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.float32)


def open_video(path: Path, rate: int = FRAME_RATE) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """A video at a fixed frame rate, decoded as it is consumed.

    Frame k is the one that the file shows at k / rate seconds after its first frame, rounded to the nearest
    tick, so variable frame rates keep their timing.

    Returns:
        What the file says, and its frames: uint8 [H, W, 3] RGB, upright.
    Raises:
        UserError: no such file, no video in it, or (while reading) it is damaged.
    """
    with _opened(path) as container:
        stream = _stream(container, "video", path)
        try:
            first = next(container.decode(stream))
        except (StopIteration, FFmpegError) as error:
            raise UserError(f"{path.name} has no picture that can be decoded; use another file") from error
        height, width = _upright(first, stream).shape[:2]
        seconds = None if container.duration is None else container.duration / av.time_base
        has_sound = bool(container.streams.audio)
        info = VideoInfo(width, height, float(stream.average_rate or rate), seconds, has_sound)
    return info, _frames(path, rate)


def _frames(path: Path, rate: int) -> Iterator[np.ndarray]:
    with _opened(path) as container:
        stream = _stream(container, "video", path)
        stream.thread_type = "AUTO"
        step = float(1 / (stream.average_rate or rate))
        start = shown = None
        tick = number = 0
        moment = 0.0
        try:
            for number, frame in enumerate(container.decode(stream)):
                moment = frame.time if frame.time is not None else number * step
                start = moment if start is None else start
                due = round((moment - start) * rate)
                while shown is not None and tick < due:
                    yield shown
                    tick += 1
                shown = _upright(frame, stream)
        except FFmpegError as error:
            raise UserError(f"{path.name} is damaged after {moment:.1f} s ({error.strerror}); "
                            "cut it or save it again") from error
        last = max(round((moment - (start or 0) + step) * rate), tick + 1)
        while shown is not None and tick < last:
            yield shown
            tick += 1


def _upright(frame: av.VideoFrame, stream: av.stream.Stream) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned as the file says, with square pixels."""
    ratio = stream.codec_context.sample_aspect_ratio
    width = round(frame.width * ratio) if ratio else frame.width
    pixels = frame.reformat(width=width, format="rgb24").to_ndarray() if width != frame.width else (
        frame.to_ndarray(format="rgb24"))
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def read_sound(path: Path, optional: bool = False, beside_pictures: bool = True) -> Sound | None:
    """The sound track of an audio or video file at its own rate, mono or stereo.

    Args:
        path: any file that FFmpeg reads.
        optional: give None instead of an error when there is no sound track.
        beside_pictures: from the file's first picture on; False: from its own first sample on.
    Raises:
        UserError: no such file, not a media file, no sound track, or (while reading) it is damaged.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            if optional:
                return None
            raise UserError(f"{path.name} has no sound track; use a file with speech")
        stream = container.streams.audio[0]
        rate, channels = stream.rate, stream.channels
        offset = _sound_offset(container) if beside_pictures else 0.0
    return Sound(rate, lambda: _sound_blocks(path, rate, min(channels, 2), offset))


def _sound_offset(container: av.container.InputContainer) -> float:
    """Seconds from the first picture to the first sound; 0 where there is no picture."""
    if not container.streams.video:
        return 0.0
    sound, picture = (float((stream.start_time or 0) * stream.time_base)
                      for stream in (container.streams.audio[0], container.streams.video[0]))
    return sound - picture


def _sound_blocks(path: Path, rate: int, channels: int, offset: float) -> Iterator[np.ndarray]:
    resampler = av.AudioResampler(format="flt", layout="mono" if channels == 1 else "stereo", rate=rate)
    skip = max(-round(offset * rate), 0)
    if offset > 0:
        yield np.zeros((round(offset * rate), channels), np.float32)
    with _opened(path) as container:
        try:
            for frame in _then_none(container.decode(container.streams.audio[0])):
                for piece in resampler.resample(frame):
                    samples = piece.to_ndarray().reshape(-1, channels)
                    if skip < len(samples):
                        yield samples[skip:]
                    skip = max(skip - len(samples), 0)
        except FFmpegError as error:
            raise UserError(f"the sound of {path.name} is damaged ({error.strerror}); "
                            "save it again") from error


def _then_none(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame | None]:
    """The frames, then None, which tells a resampler to hand out what it holds."""
    yield from frames
    yield None


def _opened(path: Path) -> av.container.InputContainer:
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a video or audio file")
    if not path.exists():
        raise UserError(f"there is no file {path}")
    try:
        return av.open(str(path))
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path.name} cannot be read as video or audio ({error.strerror}); "
                        "give an MP4, MOV, WebM, WAV or MP3 file") from error


def _stream(container: av.container.InputContainer, kind: str, path: Path) -> av.stream.Stream:
    streams = getattr(container.streams, kind)
    if not streams:
        raise UserError(f"{path.name} has no {kind} in it")
    return streams[0]
