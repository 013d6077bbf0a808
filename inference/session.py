"""A talking head that is spoken to while it speaks: sound in pieces -> frames, as soon as they are determined.

    session = talker.session(portrait)          # or a RigPainter
    for chunk in microphone:                    # any size, any rate
        show(session.push_audio(chunk, 48_000))
    show(session.finish())                      # the last words
    show(session.idle(25))                      # a second in which nobody speaks

docs/live.md says how long a frame waits and how far it is from that of the whole sound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from inference.live_speech import LiveConfig, SpeechStream
from inference.motion import Drawing, Motion, NaturalPose, PeriodicBlinks, still_pose
from inference.speech import SpeechToMotion
from modules.media.audio import Resampler
from modules.media.rates import SAMPLE_RATE

CLOSING = 7  # frames in which a mouth that is interrupted closes: 0.28 s
_OPENING = 5  # frames in which it goes over from rest to a speech that is not the first

Paint = Callable[[Motion, slice], list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class SessionConfig(LiveConfig):
    """Beside the ears, how the head moves; the same seed gives the same frames, as on the command line."""

    seed: int = 0
    pose: Literal["natural", "still"] = "natural"
    blinks: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pose not in ("natural", "still"):
            raise ValueError(f"pose is {self.pose!r}; use natural or still")


class Session:
    """Frames uint8 [S, S, 3] (or 4), 25 a second, in constant memory. Make one with `TalkingPortrait.session`.

    Attributes:
        drawn: frames given so far, which is the session's time.
    """

    def __init__(self, speech: SpeechToMotion, paint: Paint, after: int, config: SessionConfig) -> None:
        """`paint` draws the frames `part` of a motion whose other rows are their neighbours in time.

        Args:
            after: neighbours on each side on which a frame depends.
        Raises:
            UserError: the checkpoint cannot listen live.
        """
        self.drawn = 0
        self._speech, self._paint, self._after, self._config = speech, paint, after, config
        drawing = Drawing.of_seed(config.seed)
        self._lips, self._pose = drawing.lips, NaturalPose(drawing.pose)
        self._blinks = PeriodicBlinks(drawing.blinks)
        self._rest = torch.zeros(1, 64)
        self._rows, self._first = torch.zeros(0, 64), 0  # expressions that are known, from frame `_first` on
        self._stream: SpeechStream | None = SpeechStream(speech, config, self._lips)
        self._resampler: Resampler | None = None
        self._rate = SAMPLE_RATE
        self._begun, self._before = 0, self._rest  # first frame of the speech, and the expression before it

    def push_audio(self, chunk: np.ndarray, rate: int = SAMPLE_RATE) -> list[np.ndarray]:
        """Hear on, and give the frames that are determined now.

        Args:
            chunk: any number of samples [n] or [n, channels]; floats in [-1, 1], or int16.
            rate: samples a second, the same for all of a speech.
        Raises:
            ValueError: not samples, or another rate than before.
        """
        samples = self._resampled(_as_float(chunk), rate)
        if self._stream is None:
            self._begin()
        return [frame for part in self._stream.push(samples) for frame in self._append(part)]

    def finish(self) -> list[np.ndarray]:
        """The speech is over: the frames that were waiting for more of it. Another one may follow."""
        if self._stream is None:
            return []
        rest = [] if self._resampler is None else self._stream.push(self._resampler.rest()[:, 0])
        frames = [frame for part in [*rest, *self._stream.finish()] for frame in self._append(part)]
        frames += self._draw(self._known)
        self._end()
        return frames

    def interrupt(self) -> list[np.ndarray]:
        """Stop speaking: what was heard and not yet shown is dropped, and the mouth closes in these 7 frames."""
        self._end()
        return self._calm(CLOSING)

    def idle(self, frames: int) -> list[np.ndarray]:
        """So many frames in which nobody speaks: the mouth is or becomes shut; the head moves on and blinks.

        Raises:
            ValueError: a speech is being heard; it is ended by `finish` or `interrupt`.
        """
        if self._stream is not None and len(self._stream):
            raise ValueError("a speech is being heard; finish() or interrupt() it before the head idles")
        self._end()
        return self._calm(frames)

    @property
    def _known(self) -> int:
        """Frames up to the last whose expression is known."""
        return self._first + len(self._rows)

    def _begin(self) -> None:
        self._stream = SpeechStream(self._speech, self._config, self._lips)
        self._begun, self._before = self.drawn, self._shown()

    def _end(self) -> None:
        self._stream = self._resampler = None
        self._rows = self._rows[: self.drawn - self._first]

    def _shown(self) -> Tensor:
        """The expression [1, 64] of the latest frame."""
        return self._rows[-1:] if len(self._rows) else self._rest

    def _append(self, part: Tensor) -> list[np.ndarray]:
        """Frames that the next rows [n, 64] of a speech determine."""
        if self._begun:
            number = torch.arange(self._known - self._begun + 1, self._known - self._begun + 1 + len(part))
            part = torch.lerp(self._before.expand_as(part), part, _eased(number / _OPENING)[:, None])
        self._rows = torch.cat([self._rows, part])
        return self._draw(self._known - self._after)

    def _calm(self, frames: int) -> list[np.ndarray]:
        """Frames in which the mouth shuts, unless it is shut, and stays so."""
        share = _eased(torch.arange(1, frames + self._after + 1) / CLOSING)[:, None]
        self._rows = torch.cat([self._rows, torch.lerp(self._shown(), self._rest.expand(len(share), -1), share)])
        drawn = self._draw(self._known - self._after)
        self._end()
        return drawn

    def _draw(self, end: int) -> list[np.ndarray]:
        """The frames from the latest on to `end`."""
        if end <= self.drawn:
            return []
        first, count = self._first, len(self._rows)
        pose = self._pose.at(first, count) if self._config.pose == "natural" else still_pose(count)
        blink = self._blinks.at(first, count) if self._config.blinks else torch.zeros(count, 1)
        motion = Motion(self._rows, *pose, blink, self._speech.face_model, relative=True)
        frames = self._paint(motion, slice(self.drawn - first, end - first))
        self.drawn = end
        self._first = max(end - max(self._after, 1), 0)  # one row is kept for the way to rest
        self._rows = self._rows[self._first - first :]
        return frames

    def _resampled(self, samples: np.ndarray, rate: int) -> np.ndarray:
        if self._resampler is None:
            if rate < 1:
                raise ValueError(f"rate is {rate}; it must be positive")
            self._resampler, self._rate = Resampler(rate, SAMPLE_RATE, 1), rate
        if rate != self._rate:
            raise ValueError(f"rate is {rate}, but this speech began with {self._rate}; finish() it first")
        return self._resampler.pass_on(samples[:, None])[:, 0]


def _as_float(chunk: np.ndarray) -> np.ndarray:
    """Samples [n] float32: the mean of the channels."""
    samples = np.asarray(chunk)
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 2**15
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise ValueError("sound must be finite floats in [-1, 1] or int16, [n] or [n, channels]")
    samples = samples.astype(np.float32, copy=False)
    return samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)


def _eased(share: Tensor) -> Tensor:
    """From 0 to 1 without a jerk, where a share of the way goes evenly."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)
