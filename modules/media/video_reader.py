"""Pictures read from video files at a fixed rate, decoded as they are consumed, with PyAV alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
import cv2
import numpy as np

from modules.media.colour import frame_to_rgb
from modules.media.container import open_media, picture_track, sound_track
from modules.media.decoding import decode_pictures, first_picture_time
from modules.media.rates import FRAME_RATE
from modules.media.stated_length import check_length, stated_seconds
from modules.system.errors import UserError

INSTANT = 1e-6  # seconds that are none: rounding
Item = TypeVar("Item")
_Picture = tuple[av.VideoFrame, av.VideoStream]


@dataclass(frozen=True)
class VideoInfo:
    """What a video file states about itself.

    Attributes:
        width, height: pixels of the first picture as displayed (upright, square pixels).
        rate: frames a second in the file, on average.
        seconds: length, None if the file does not say.
        has_sound: whether there is a sound track.
    """

    width: int
    height: int
    rate: float
    seconds: float | None
    has_sound: bool


def open_video(
    path: Path, rate: int = FRAME_RATE, start: float = 0.0, stop: float | None = None
) -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """A video at a fixed frame rate, decoded as it is consumed.

    Frame k is the picture that the file shows k / rate seconds after its first one, or the next one if that is nearer
    and at most half a frame away. So variable frame rates keep their timing, and higher ones are taken evenly.

    Args:
        path: the file.
        rate: frames a second.
        start, stop: the part to read, seconds from the first picture on; frame 0 is then at `start`. Where the format
            has an index (MP4, MOV, MKV, WebM) what lies before is not decoded.
    Returns:
        What the file states, and its frames: uint8 [H, W, 3] RGB, upright. Their size changes where that of the file
        does (a call, a turned phone); `of_one_size` fits them into the first.
    Raises:
        UserError: no such file, no video in it, or (while reading) it cannot be read on or is half or less of what it
            surely was, or it ends before `start`.
    """
    path = Path(path)
    first, track = next(decode_pictures(path), (None, None))
    if first is None:
        raise UserError(f"{path.name} has no picture that can be decoded; use another file")
    height, width = _upright(first, track).shape[:2]
    with open_media(path) as container:
        track = picture_track(container)
        seconds = None if container.duration is None else container.duration / av.time_base
        stated = stated_seconds(path, container, track)
        info = VideoInfo(width, height, float(track.average_rate or rate), seconds, sound_track(container) is not None)
    if start <= 0 and stop is None:
        return info, _frames(path, rate, stated)
    return info, _part_frames(path, rate, start, stop)


def of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] of any sizes -> all of the first one's: scaled as a whole, in the middle, the rest black."""
    shape = None
    for frame in frames:
        shape = frame.shape if shape is None else shape
        if frame.shape == shape:
            yield frame
            continue
        scale = min(shape[0] / frame.shape[0], shape[1] / frame.shape[1])
        height, width = (max(round(scale * side), 1) for side in frame.shape[:2])
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        fitted = np.zeros(shape, np.uint8)
        fitted[top : top + height, left : left + width] = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        yield fitted


def _frames(path: Path, rate: int, stated: float | None) -> Iterator[np.ndarray]:
    count = 0
    for picture in _pictures(evenly(_timed(path), rate)):
        count += 1
        yield picture
    check_length(path, count / rate, stated)


def _part_frames(path: Path, rate: int, start: float, stop: float | None) -> Iterator[np.ndarray]:
    first = first_picture_time(path)
    timed = _timed(path) if first is None else _timed(path, first, first + start)
    pictures = _pictures(evenly(part_of(timed, start, stop), rate))
    picture = next(pictures, None)
    if picture is None:
        raise UserError(f"{path.name} ends before {start:.2f} s; use the whole file")
    yield picture
    yield from pictures


def _pictures(timed: Iterable[_Picture]) -> Iterator[np.ndarray]:
    shown = picture = None
    for item in timed:
        if item is not shown:
            shown, picture = item, _upright(*item)
        yield picture


def part_of(
    items: Iterable[tuple[float, float, Item]], start: float, stop: float | None
) -> Iterator[tuple[float, float, Item]]:
    """The items that are shown from `start` to `stop` (None: the end), with their times and durations in that part."""
    before = None
    for time, duration, item in items:
        if stop is not None and time >= stop - INSTANT:
            before = before and (0.0, stop - start, before[2])
            break
        end = time + duration if stop is None else min(time + duration, stop)
        if time <= start + INSTANT:
            before = (0.0, end - start, item)
            continue
        if before is not None:  # it stays until the next picture, whatever its duration
            yield before[0], max(before[1], INSTANT), before[2]
            before = None
        yield time - start, end - time, item
    if before is not None and before[1] > INSTANT:
        yield before


def _timed(
    path: Path, start: float | None = None, after: float | None = None
) -> Iterator[tuple[float, float, _Picture]]:
    """Time from the first picture on, which does not go back; how long it is shown; and the picture.

    Args:
        start: seconds of the file at which the first picture is shown; None: where reading begins.
        after: seconds of the file before which pictures may be left out.
    """
    time = None
    step = 0.0
    for frame, track in decode_pictures(path, after):
        step = step or float(1 / (track.average_rate or FRAME_RATE))
        own = frame.time if frame.time is not None else (0.0 if time is None else time + step)
        start = own if start is None else start
        if time is not None and own > time:
            step = own - time
        time = own if time is None else max(own, time)
        stated = float(frame.duration * frame.time_base) if frame.duration else 0.0  # a tick in some files
        yield time - start, max(stated, min(step, 1 / FRAME_RATE)), (frame, track)


def evenly(items: Iterable[tuple[float, float, Item]], rate: float) -> Iterator[Item]:
    """Items with their times and durations in seconds, from 0 on -> `rate` of them a second, as `open_video` says."""
    tick, shown, end = 0, None, 0.0
    for time, duration, item in items:
        if shown is not None:
            change = max((shown[0] + time) / 2, time - 0.5 / rate)
            while tick / rate <= change + INSTANT:
                yield shown[1]
                tick += 1
        shown, end = (time, item), time + duration
    if shown is not None:
        for _ in range(tick, max(int(end * rate + 0.5 - INSTANT), tick, 1)):
            yield shown[1]


def _upright(frame: av.VideoFrame, stream: av.stream.Stream) -> np.ndarray:
    """uint8 RGB [H, W, 3], turned as the file says, with square pixels."""
    ratio = stream.codec_context.sample_aspect_ratio
    width = round(frame.width * ratio) if ratio else frame.width
    pixels = frame_to_rgb(frame, width)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
