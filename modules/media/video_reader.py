"""Frames read from video files, decoded as they are consumed, with PyAV alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from modules.media.colour import frame_to_rgb
from modules.media.container import open_media
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError


@dataclass(frozen=True)
class VideoInfo:
    """What a video file states about itself.

    Attributes:
        width, height: pixels as displayed (upright, square pixels).
        rate: frames a second in the file, on average.
        seconds: length, None if the file does not say.
        has_sound: whether there is a sound track.
    """

    width: int
    height: int
    rate: float
    seconds: float | None
    has_sound: bool


def open_video(path: Path, rate: int = FRAME_RATE) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """A video at a fixed frame rate, decoded as it is consumed.

    Frame k is the file's frame at k / rate seconds after its first frame, rounded to the nearest
    tick, so variable frame rates keep their timing.

    Args:
        path: the file.
        rate: frames a second.
    Returns:
        What the file states, and its frames: uint8 [H, W, 3] RGB, upright.
    Raises:
        UserError: no such file, no video in it, or (while reading) it is damaged.
    """
    with open_media(path) as container:
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
    with open_media(path) as container:
        stream = _stream(container, "video", path)
        stream.thread_type = "AUTO"
        step = float(1 / (stream.average_rate or rate))
        start = current = None
        tick = number = 0
        moment = 0.0
        try:
            for number, frame in enumerate(container.decode(stream)):
                moment = frame.time if frame.time is not None else number * step
                start = moment if start is None else start
                due = round((moment - start) * rate)
                while current is not None and tick < due:
                    yield current
                    tick += 1
                current = _upright(frame, stream)
        except FFmpegError as error:
            raise UserError(
                f"{path.name} is damaged after {moment:.1f} s ({error.strerror}); cut it or save it again"
            ) from error
        last = max(round((moment - (start or 0) + step) * rate), tick + 1)
        while current is not None and tick < last:
            yield current
            tick += 1


def _upright(frame: av.VideoFrame, stream: av.stream.Stream) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned as the file says, with square pixels."""
    ratio = stream.codec_context.sample_aspect_ratio
    width = round(frame.width * ratio) if ratio else frame.width
    pixels = frame_to_rgb(frame, width)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _stream(container: av.container.InputContainer, kind: str, path: Path) -> av.stream.Stream:
    streams = getattr(container.streams, kind)
    if not streams:
        raise UserError(f"{path.name} has no {kind} in it")
    return streams[0]
