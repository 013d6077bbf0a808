"""Pitch of speech by Boersma's autocorrelation method, and its coarse scale (docs/spec/audio2motion.md#2-3, #6-4).

The method is Praat's "To Pitch (ac)" (P. Boersma, 1993, IFA Proceedings 17), in numpy, many frames at once. Only the
candidates of the frames, a few numbers each, are kept for the whole of a sound.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from torch import Tensor

from modules.media.rates import HOP, SAMPLE_RATE

Array = NDArray[np.float64]
AT_ONCE = 500  # frames at once: 10 s


@dataclass(frozen=True, kw_only=True)
class PitchConfig:
    """Settings of the pitch tracker; the defaults are the released system's."""

    step: float = 0.02  # seconds between frames
    floor: float = 80.0  # Hz
    ceiling: float = 750.0  # Hz
    voicing_threshold: float = 0.6
    silence_threshold: float = 0.03
    octave_cost: float = 0.01
    octave_jump_cost: float = 0.35
    voicing_cost: float = 0.14  # voiced / unvoiced
    candidates: int = 15  # the unvoiced one included

    def __post_init__(self) -> None:
        if not 0 < self.floor < self.ceiling:
            raise ValueError(f"floor {self.floor} Hz and ceiling {self.ceiling} Hz must be positive and ascending")
        if not 2 <= self.candidates <= 127:
            raise ValueError(f"candidates is {self.candidates}; it must be from 2 to 127")


@dataclass(frozen=True)
class PitchTrack:
    """f0 [F] Hz, 0 = unvoiced; `first` and `step` in seconds: frame i is centred at first + i step."""

    f0: Array
    first: float
    step: float


def coarse_pitch(f0: Tensor) -> Tensor:
    """Hz -> 1..255 on the mel scale between 50 and 1100 Hz; unvoiced -> 1. Any shape, int64.

    See docs/spec/audio2motion.md#2-3.
    """
    mel = 1127 * torch.log(1 + f0 / 700)
    low, high = (1127 * float(np.log(1 + hertz / 700)) for hertz in (50, 1100))
    scaled = torch.where(mel > 0, (mel - low) * 254 / (high - low) + 1, mel)
    return (scaled.clamp(1, 255) + 0.5).long()


class Samples(Protocol):
    """A sound in memory (an array) or on disk (`StoredSound`): its length, and slices of it as arrays."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> NDArray[np.floating]: ...


def track_pitch(waveform: Samples, config: PitchConfig | None = None, length: int | None = None) -> PitchTrack:
    """Pitch of a mono waveform [N] at 16 kHz; an empty track if it is shorter than three periods of the floor.

    Args:
        waveform: only slices of some seconds are held at a time.
        config: None: the released system's.
        length: samples, at least N: beyond the end there are zeros; None: N.
    """
    config = config or PitchConfig()
    length = length or len(waveform)
    duration = length / SAMPLE_RATE
    frames = int(np.floor((duration - 3 / config.floor) / config.step)) + 1
    if frames < 1:
        return PitchTrack(np.zeros(0), 0.0, config.step)
    first = duration / 2 - frames * config.step / 2 + config.step / 2
    centres = first + config.step * np.arange(frames)
    peak = _largest_deviation(waveform, length)
    path = BestPath(config)
    for block in np.split(centres, range(AT_ONCE, frames, AT_ONCE)):
        lags = normalised_autocorrelation(waveform, block, peak, config)
        path.extend(*candidates(lags.correlation, lags.silent, config), lags.intensity)
    f0 = path.frequencies()
    f0[(f0 <= 0) | (f0 >= config.ceiling)] = 0
    return PitchTrack(f0, first, config.step)


def pitch_at_hop(waveform: Samples, frames: int) -> Array:
    """Pitch of a waveform [N] at 16 kHz, padded with zeros: [frames] Hz, 50 a second, frame i centred at (i + 1) 20 ms.

    See docs/spec/audio2motion.md#6-3 and #6-4.
    """
    f0 = track_pitch(waveform, length=(len(waveform) // HOP + 1) * HOP).f0[:frames]
    return np.pad(f0, (0, frames - len(f0)))


def _largest_deviation(wave: Samples, length: int) -> float:
    """From the mean of the wave with zeros behind it up to `length` samples."""
    step = AT_ONCE * HOP
    total, low, high = 0.0, np.inf, -np.inf
    for start in range(0, len(wave), step):
        block = wave[start : start + step]
        total += float(block.sum(dtype=np.float64))
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    if length > len(wave):
        low, high = min(low, 0.0), max(high, 0.0)
    mean = total / length
    return max(high - mean, mean - low)


@dataclass(frozen=True)
class Lags:
    """Of F frames.

    Attributes:
        correlation: [F, max lag + 1], lag 0 first.
        intensity: [F] in [0, 1].
        silent: [F], frames of nothing but zeros.
    """

    correlation: Array
    intensity: Array
    silent: NDArray[np.bool_]


def normalised_autocorrelation(wave: Samples, centres: Array, global_peak: float, config: PitchConfig) -> Lags:
    """Of the frames around `centres`, which ascend; `global_peak` is the largest deviation from the wave's mean."""
    window_length = int(3 * SAMPLE_RATE / config.floor)
    half = window_length // 2 - 1
    width, period = 2 * half, int(SAMPLE_RATE / config.floor)
    left = np.floor(centres * SAMPLE_RATE - 0.5).astype(np.int64)  # [F] sample left of the centre
    reach = max(half, period)
    first, last = int(left[0]) - reach - 2, int(left[-1]) + reach + 3
    inside = wave[max(first, 0) : max(last, 0)].astype(np.float64)
    padded = np.pad(inside, (max(-first, 0), max(last - max(len(wave), first), 0)))
    start = left - first
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    mean = (sums[start + 1 + period] - sums[start + 1 - period]) / (2 * period)
    segments = padded[start[:, None] + 1 - half + np.arange(width)] - mean[:, None]  # [F, W]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, width + 1) / (width + 1))
    segments *= hann
    reach = period // 2 + 1
    local_peak = np.abs(segments[:, half - reach : half + reach]).max(axis=1)
    size = next_fast_len(int(np.ceil(1.5 * width)))
    correlation = _autocorrelation(segments, size)[:, : width // 2 + 1]
    silent = local_peak == 0
    correlation[silent] = 0
    energy = np.where(correlation[:, :1] > 0, correlation[:, :1], 1)
    of_window = _autocorrelation(hann[None], size)[:, : width // 2 + 1]
    correlation = correlation / energy / (of_window / of_window[:, :1])
    intensity = np.minimum(1, local_peak / global_peak) if global_peak > 0 else np.zeros(len(centres))
    return Lags(correlation, intensity, silent)


def _autocorrelation(x: Array, size: int) -> Array:
    return irfft(np.abs(rfft(x, size)) ** 2, size)


def candidates(correlation: Array, silent: NDArray[np.bool_], config: PitchConfig) -> tuple[Array, Array]:
    """Frequencies and strengths [F, K]; column 0 is "unvoiced" (0, 0), unused slots are (0, -inf)."""
    frames, lags = correlation.shape
    last = min(int(3 * SAMPLE_RATE / config.floor) // 3 + 2, lags - 1)
    middle, before, after = correlation[:, 2:last], correlation[:, 1 : last - 1], correlation[:, 3 : last + 1]
    peak = (middle > 0.5 * config.voicing_threshold) & (middle > before) & (middle >= after) & ~silent[:, None]
    row, column = np.nonzero(peak)
    lag = column + 2
    r_k, r_before, r_after = (correlation[row, lag + o] for o in (0, -1, 1))
    position = lag + 0.5 * (r_after - r_before) / (2 * r_k - r_before - r_after)
    strength = _fold(sinc_interpolation(correlation, row, position, 30))
    rank = strength - config.octave_cost * np.log2(config.floor * position / SAMPLE_RATE)
    keep, slot = _strongest(row, rank, config.candidates - 1)
    row, lag = row[keep], lag[keep]
    high = SAMPLE_RATE / position[keep] > 0.3 * SAMPLE_RATE
    best, value = np.empty(len(row)), np.empty(len(row))
    for chosen, depth in ((~high, 70), (high, 700)):
        best[chosen], value[chosen] = _maximise(correlation, row[chosen], lag[chosen], depth)
    frequency = np.zeros((frames, config.candidates))
    strengths = np.full((frames, config.candidates), -np.inf)
    strengths[:, 0] = 0
    frequency[row, slot + 1] = SAMPLE_RATE / best
    strengths[row, slot + 1] = _fold(value)
    return frequency, strengths


def _fold(value: Array) -> Array:
    return np.where(value > 1, 1 / np.where(value > 1, value, 1), value)


def _strongest(row: NDArray[np.int64], rank: Array, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the `count` best of each row, and their slots 0..count-1 within the row."""
    order = np.lexsort((-rank, row))
    ordered = row[order]
    slot = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    chosen = slot < count
    return order[chosen], slot[chosen]


def sinc_interpolation(correlation: Array, row: NDArray[np.int64], position: Array, depth: int) -> Array:
    """Values of the symmetric rows r at fractional lags by a windowed sinc of `depth` taps on each side.

    Args:
        correlation: [F, L], r at lags 0 .. L-1; r(-lag) = r(lag).
        row: [N], the frame of each value.
        position: [N], its lag in samples.
        depth: taps on each side.
    Returns:
        [N].
    """
    limit = correlation.shape[1] - 1
    left = np.floor(position).astype(np.int64)
    depth = min(depth, 2 * limit)
    first, last = np.maximum(left - depth + 1, -limit), np.minimum(left + depth, limit)
    taps = left[:, None] + np.arange(1 - depth, depth + 1)  # [N, 2 depth]
    inside = (taps >= first[:, None]) & (taps <= last[:, None])
    distance = position[:, None] - taps
    on_left = np.arange(2 * depth) < depth
    width = np.where(on_left, (position - first + 1)[:, None], (last - position + 1)[:, None])
    window = 0.5 + 0.5 * np.cos(np.pi * np.abs(distance) / width)
    sign = np.where(np.arange(1 - depth, depth + 1) % 2 == 0, 1.0, -1.0)  # sin(pi (x - i)) = +-sin(pi x)
    fraction = position - left
    whole = fraction == 0
    safe = np.where(distance == 0, 1, distance)
    kernel = np.sin(np.pi * fraction)[:, None] * sign / (np.pi * safe) * window * inside
    values = correlation[row[:, None], np.minimum(np.abs(taps), limit)]
    return np.where(whole, correlation[row, np.minimum(np.abs(left), limit)], (kernel * values).sum(axis=1))


def _maximise(correlation: Array, row: NDArray[np.int64], lag: NDArray[np.int64], depth: int) -> tuple[Array, Array]:
    """Maximum of the interpolated rows over [lag - 1, lag + 1], by golden section: positions and values [N]."""
    if len(row) == 0:
        return np.zeros(0), np.zeros(0)
    ratio = (np.sqrt(5) - 1) / 2
    low, high = lag - 1.0, lag + 1.0
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = (sinc_interpolation(correlation, row, x, depth) for x in (a, b))
    for _ in range(36):  # 2 * 0.618^36 = 6e-8 of a lag
        right = at_b > at_a
        low, high = np.where(right, a, low), np.where(right, high, b)
        new = np.where(right, low + ratio * (high - low), high - ratio * (high - low))
        at_new = sinc_interpolation(correlation, row, new, depth)
        a, b = np.where(right, b, new), np.where(right, new, a)
        at_a, at_b = np.where(right, at_b, at_new), np.where(right, at_new, at_a)
    best = np.where(at_b > at_a, b, a)
    return best, np.maximum(at_a, at_b)


class BestPath:
    """Candidate of each frame on the path of largest total score (dynamic programming), frames as they come.

    Kept of a frame are the frequencies of its candidates and where each came from.
    """

    def __init__(self, config: PitchConfig) -> None:
        self.config = config
        self.heard: list[Array] = []  # [F, K] frequencies of each part
        self.back: list[NDArray[np.int8]] = []  # [F, K] likewise: candidate of the frame before
        self.total = np.zeros(0)  # [K] scores of the paths to the candidates of the latest frame,
        self.voiced = np.zeros(0, bool)  # whether these are voiced,
        self.pitch = np.zeros(0)  # and the logarithms of their frequencies

    def extend(self, frequency: Array, strength: Array, intensity: Array) -> None:
        """The next frames: frequencies and strengths [F, K], intensities [F]."""
        config = self.config
        voiced = (frequency > 0) & (frequency < config.ceiling)
        log_frequency = np.log2(np.where(voiced, frequency, 1))
        silence = 2 - intensity * (1 + config.voicing_threshold) / config.silence_threshold
        unvoiced_score = config.voicing_threshold + np.maximum(0, silence)
        score = np.where(
            voiced, strength - config.octave_cost * (np.log2(config.ceiling) - log_frequency), unvoiced_score[:, None]
        )
        score[np.isneginf(strength)] = -np.inf
        correction = 0.01 / config.step
        back = np.zeros(frequency.shape, dtype=np.int8)
        for t in range(len(frequency)):
            total = score[t]
            if len(self.total):
                both = self.voiced[:, None] & voiced[t][None]
                one = self.voiced[:, None] ^ voiced[t][None]
                jump = np.abs(self.pitch[:, None] - log_frequency[t][None])
                cost = correction * (config.voicing_cost * one + config.octave_jump_cost * jump * both)
                paths = self.total[:, None] - cost  # [from, to]
                back[t] = paths.argmax(axis=0)
                total = paths.max(axis=0) + score[t]
            self.total, self.voiced, self.pitch = total, voiced[t], log_frequency[t]
        self.heard.append(frequency)
        self.back.append(back)

    def frequencies(self) -> Array:
        """Those of the best path, of all frames so far, at least one: [F]."""
        result, at = [], int(np.argmax(self.total))
        for frequency, back in zip(reversed(self.heard), reversed(self.back)):
            for t in range(len(frequency) - 1, -1, -1):
                result.append(frequency[t, at])
                at = int(back[t, at])
        return np.array(result[::-1])

    def forget(self, kept: int) -> None:
        """Drop the oldest parts while at least `kept` frames stay: `frequencies` gives only those that are there."""
        while sum(len(part) for part in self.heard[1:]) >= kept:
            del self.heard[0], self.back[0]
