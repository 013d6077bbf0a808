"""Sound read from video and sound files, decoded as it is consumed, at the times that the file says."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soxr

from modules.media.container import open_media, sound_track
from modules.media.decoding import decode_sound, first_picture_time
from modules.media.samples import frame_samples, mixed
from modules.media.stated_length import check_length, stated_seconds
from modules.system.errors import UserError

BLOCK = 4096  # samples handed over at once
OFF = 0.01  # seconds that a piece may be off its time; stamps jitter by some milliseconds
STAMP = 0.0015  # seconds by which rounding to the milliseconds of a format may falsify a distance
AGREE = 5  # pieces in a row that must be off before sound is moved


@dataclass(frozen=True)
class Sound:
    """A sound that is read when it is needed.

    Attributes:
        rate: samples a second.
        blocks: a function that gives the samples from the start, pieces [n, C] float32 in [-1, 1], C = 1 or 2.
        seconds: length that the file states and that is no guess; None if it states none.
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

    def mono(self, rate: int) -> Iterator[np.ndarray]:
        """The mean of the channels at another rate, as it is read: pieces [n] float32."""
        resampler = Resampler(self.rate, rate, 1)
        for block in self.blocks():
            mean = block if block.shape[1] == 1 else block.mean(axis=1, keepdims=True, dtype=np.float32)
            yield resampler.pass_on(mean)[:, 0]
        yield resampler.rest()[:, 0]


def read_mono(path: Path, rate: int) -> np.ndarray:
    """A file's whole sound, from its own first sample on -> [N] float32 in [-1, 1], `rate` samples a second.

    Channels are mixed to their mean, more than two of them after a mix to stereo.

    Raises:
        UserError: what `read_sound` refuses; or the file holds no sound, less than half of what it surely held, or
            samples that are not numbers.
    """
    return np.concatenate(list(mono_pieces(path, rate)))


def mono_pieces(path: Path, rate: int) -> Iterator[np.ndarray]:
    """The sound of `read_mono` as it is read: pieces [n] float32; some refusals come after the last one.

    Raises:
        UserError: as `read_mono`.
    """
    path = Path(path)
    sound = read_sound(path, beside_pictures=False)
    length = 0
    for piece in sound.mono(rate):
        if not np.isfinite(piece).all():
            raise UserError(f"{path} holds samples that are not numbers; convert it again")
        length += len(piece)
        yield piece
    if length == 0:
        raise UserError(f"{path} holds no sound; give a file with speech")
    check_length(path, length / rate, sound.seconds)


def read_sound(path: Path, optional: bool = False, beside_pictures: bool = True, after: float = 0.0) -> Sound | None:
    """The first sound track of an audio or video file, mono or stereo, at the rate of its beginning.

    Gaps are silent, and what overlaps is left out, so that every sample has its time; where channels, rate or format
    change, the sound is converted to those of its beginning.

    Args:
        path: any file that FFmpeg reads.
        optional: give None instead of an error when there is no sound track.
        beside_pictures: start at the file's first picture; False: at its own first sample.
        after: seconds later than that at which to start; where the format has an index (MP4, MOV, MKV, WebM) what
            lies before is not decoded.
    Raises:
        ValueError: `after` of a file that states no times, such as WAV.
        UserError: no such file, not a media file, no sound track, or (while reading) it cannot be read on.
    """
    path = Path(path)
    with open_media(path) as container:
        track = sound_track(container)
        if track is None:
            if optional:
                return None
            raise UserError(f"{path.name} has no sound track; use a file with speech")
        seconds = stated_seconds(path, container, track)
    first, _ = next(decode_sound(path), (None, ()))
    if first is None:
        if optional:
            return None
        raise UserError(f"{path.name} holds no sound that can be decoded; use another file")
    start = first_picture_time(path) if beside_pictures else None
    start = first.time if start is None else start
    rate, channels = first.rate, min(first.layout.nb_channels, 2)
    if after <= 0:
        return Sound(rate, lambda: _blocks(_pieces(path, channels), channels, start, rate), seconds)
    if start is None:
        raise ValueError(f"{path.name} states no times; only all of it can be read")
    later = start + after
    return Sound(rate, lambda: _blocks(_pieces(path, channels, later), channels, later, rate))


def _blocks(pieces: Iterator["_Piece"], channels: int, start: float | None, rate: int) -> Iterator[np.ndarray]:
    resampler, before = None, 0
    for silence, own_rate, samples in _on_time(pieces, start, rate):
        if resampler is not None and (silence or own_rate != before):
            yield resampler.rest()
            resampler = None
        for first in range(0, silence, rate):  # a long gap is handed over by the second
            yield np.zeros((min(rate, silence - first), channels), np.float32)
        resampler, before = resampler or Resampler(own_rate, rate, channels), own_rate
        yield resampler.pass_on(samples)
    if resampler is not None:
        yield resampler.rest()


def _pieces(path: Path, channels: int, after: float | None = None) -> Iterator["_Piece"]:
    for frame, names in decode_sound(path, after):
        if frame.samples and frame.rate:
            yield _Piece(frame.time, frame.rate, mixed(frame_samples(frame), names, channels))


@dataclass(frozen=True)
class _Piece:
    """Samples [n, C], `rate` of them a second, from `time` on, in seconds of the file; None: after those before."""

    time: float | None
    rate: int
    samples: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def _on_time(pieces: Iterator[_Piece], start: float | None, rate: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Where each piece comes: samples of silence (at `rate`) before it, its own rate, its samples, cut if they overlap.

    A piece is moved only if the next ones are off their time in the same direction, by the least of their distances.
    """
    end, off = 0.0, 0.0  # seconds given so far; the first piece comes exactly on time
    ahead: deque[_Piece] = deque()
    for piece in chain(pieces, [None] * (AGREE - 1)):
        if piece is not None:
            ahead.append(piece)
            if len(ahead) < AGREE:
                continue
        if not ahead:
            return
        shift = 0.0 if start is None else _agreed(ahead, end + start, off)
        piece = ahead.popleft()
        silence, cut = max(round(shift * rate), 0), max(round(-shift * piece.rate), 0)
        samples = piece.samples[cut:]
        end += silence / rate + len(samples) / piece.rate
        if len(samples):
            off = OFF
            yield silence, piece.rate, samples


def _agreed(pieces: deque[_Piece], end: float, off: float) -> float:
    """Seconds by which pieces are late (early: negative) when they follow at `end`; 0 unless all by more than `off`."""
    distances = []
    for piece in pieces:
        if piece.time is not None:
            distances.append(piece.time - end)
        end += piece.seconds
    late, early = min(distances, default=0.0), max(distances, default=0.0)
    if late > off:
        lost = round(late / pieces[0].seconds) * pieces[0].seconds  # whole packets, where stamps are rounded
        return lost if abs(lost - late) < STAMP else late
    return early if early < -off else 0.0


class Resampler:
    """Sound [n, channels] at rate `before` -> [m, channels] at rate `after`, piece by piece."""

    def __init__(self, before: int, after: int, channels: int) -> None:
        self._channels = channels
        self._stream = None
        if before != after:
            self._stream = soxr.ResampleStream(before, after, channels, dtype="float32", quality="HQ")

    def pass_on(self, samples: np.ndarray) -> np.ndarray:
        """What can be given of the sound so far."""
        return samples if self._stream is None else self._chunk(samples, last=False)

    def rest(self) -> np.ndarray:
        """What is left, at the end."""
        nothing = np.zeros((0, self._channels), np.float32)
        return nothing if self._stream is None else self._chunk(nothing, last=True)

    def _chunk(self, samples: np.ndarray, last: bool) -> np.ndarray:
        columns = np.ascontiguousarray(samples if self._channels > 1 else samples[:, 0])
        return self._stream.resample_chunk(columns, last=last).reshape(-1, self._channels)
