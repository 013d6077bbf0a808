"""Pitch of a sound that is still coming: the tracker of pitch.py, fed a few frames at a time, in constant memory."""

import numpy as np

from modules.audio.pitch import (
    Array,
    BestPath,
    PitchConfig,
    Samples,
    candidates,
    normalised_autocorrelation,
)
from modules.media.rates import HOP, SAMPLE_RATE

MARGIN = HOP  # samples behind the end of a frame that it may hear
_LEAST_PEAK = 0.02  # loudness that a voice is expected to reach, so that the noise before it is no voice


class LivePitch:
    """What `pitch_at_hop` gives of the whole sound, as far as the sound so far tells it.

    Two things are those of the sound heard so far: its loudest moment, from which silence is judged, and the path of
    largest score, which may turn out otherwise when more is heard.

    Args:
        kept: frames of which the pitch can be asked for, the latest ones.
        config: None: the released system's.
    Attributes:
        frames: how many have been heard.
    """

    def __init__(self, kept: int, config: PitchConfig | None = None) -> None:
        self.frames = 0
        self._kept, self._config = kept, config or PitchConfig()
        self._path = BestPath(self._config)
        self._samples, self._total, self._low, self._high = 0, 0.0, 0.0, 0.0

    def extend(self, waveform: Samples, frames: int, samples: int) -> None:
        """Hear on until there are `frames` frames of 20 ms.

        Args:
            waveform: at 16 kHz; only what is new is read, and zeros behind its end.
            samples: of the waveform count for its loudness, at most as many as it has.
        """
        if frames <= self.frames:
            return
        new = waveform[self._samples : samples]
        if len(new):
            self._total += float(new.sum(dtype=np.float64))
            self._low, self._high = min(self._low, float(new.min())), max(self._high, float(new.max()))
            self._samples = samples
        mean = self._total / max(self._samples, 1)
        peak = max(self._high - mean, mean - self._low, _LEAST_PEAK)
        centres = np.arange(self.frames + 1, frames + 1) * (HOP / SAMPLE_RATE)
        lags = normalised_autocorrelation(waveform, centres, peak, self._config)
        self._path.extend(*candidates(lags.correlation, lags.silent, self._config), lags.intensity)
        self._path.forget(self._kept)
        self.frames = frames

    def f0(self, first: int, last: int) -> Array:
        """Frames `first` to `last` [last - first] in Hz, 0 = unvoiced or not heard."""
        result = np.zeros(last - first)
        if self.frames:
            path = self._path.frequencies()
            path[(path <= 0) | (path >= self._config.ceiling)] = 0
            start = self.frames - len(path)
            known = path[max(first - start, 0) : max(last - start, 0)]
            result[max(start - first, 0) :][: len(known)] = known
        return result
