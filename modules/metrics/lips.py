"""Lips and lids: whether the mouth follows the speech and rests without it, whether eyes shut, and nothing else moves.

A clip's sound may be late or early against its picture by frames. Lips that a method makes from the sound are compared
with the true lips at that known offset, which is a fact of the clip; never at the lag that suits the tested video best,
which gives even noise a good correlation.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.audio.features import mel_basis, mel_spectrogram
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.metrics.motion import correlation
from modules.metrics.series import ClipSeries

VOWEL_BAND = (300.0, 1000.0)  # Hz, of the first formant, which rises with the jaw
_SILENCE = 30.0  # dB below the level of speech
_SHORTEST_SILENCE = 5  # frames
_CLOSED = 0.15  # of the 95 % quantile of a clip's openings


def opening_correlation(made: Tensor, truth: Tensor, offset: float = 0.0) -> float:
    """Pearson correlation over time of the made mouth's opening with the true one at the clip's own sound offset.

    From -1 to 1, higher is better; real speech allows about 0.6 from sound alone. Openings are of MediaPipe's
    landmarks (`series.mouth_opening`).

    Args:
        made: [T], of a video made from the clip's sound.
        truth: [T], of the clip's own picture.
        offset: frames of 25 a second by which the clip's sound is late; made[t] belongs to truth[t - offset]. Between
            frames the truth is interpolated. 0 for a video driven by the clip's picture.
    """
    lips = _delayed(truth, offset)
    both = made.isfinite() & lips.isfinite()
    if both.sum() < 2:
        return float("nan")
    return float(correlation(made[both][None], lips[both][None], torch.ones(1, int(both.sum()))))


def _delayed(values: Tensor, frames: float) -> Tensor:
    """values[t - frames], interpolated; NaN outside."""
    position = torch.arange(len(values), dtype=torch.float64) - frames
    below = position.floor()
    share = (position - below).to(values)
    inside = (below >= 0) & (position <= len(values) - 1)
    first = below.long().clamp(0, len(values) - 1)
    second = (first + 1).clamp(max=len(values) - 1)
    mixed = torch.where(share == 0, values[first], values[first] * (1 - share) + values[second] * share)
    return torch.where(inside, mixed, torch.nan)


def vowel_loudness(waveform: Tensor, frames: int) -> Tensor:
    """The mouth of a rule that has learnt nothing: log energy between 300 and 1000 Hz, [frames].

    A baseline, no more: on four real clips its correlation with the true opening is 0.05 in the mean, and it cannot
    tell how late a clip's sound is.

    Args:
        waveform: [N] at 16 kHz.
        frames: T, 25 a second; sound that ends early counts as silence.
    """
    weights = mel_basis()  # [80, F] of frequencies from 0 to 8 kHz
    centres = torch.linspace(0, SAMPLE_RATE / 2, weights.shape[1])[weights.argmax(dim=1)]
    band = (centres >= VOWEL_BAND[0]) & (centres <= VOWEL_BAND[1])
    samples = frames * SAMPLE_RATE // FRAME_RATE + SAMPLE_RATE // FRAME_RATE  # one frame more, for the last window
    mel = mel_spectrogram(F.pad(waveform.float(), (0, max(0, samples - len(waveform)))))[: 2 * frames]
    energy = (10 ** (2 * mel[:, band])).mean(dim=1).clamp(min=1e-10).log10()
    return energy.view(frames, 2).mean(dim=1)


def frame_loudness(waveform: Tensor, frames: int) -> Tensor:
    """Root mean square of the sound [N] at 16 kHz in every frame of 40 ms; silence where it ends early: [frames]."""
    step = SAMPLE_RATE // FRAME_RATE
    sound = F.pad(waveform.float(), (0, max(0, frames * step - len(waveform))))[: frames * step]
    return sound.view(frames, step).square().mean(dim=1).sqrt()


def loudness_correlation(opening: Tensor, waveform: Tensor, late: float = 0.0) -> float:
    """Pearson correlation over time of the mouth's opening with the loudness of the sound (`frame_loudness`).

    From -1 to 1, to be read beside that of the true lips: real mouths hardly follow loudness.

    Args:
        opening: [T].
        waveform: [N] at 16 kHz.
        late: frames by which the sound comes after this mouth; 0 for a mouth made from the sound.
    """
    return opening_correlation(frame_loudness(waveform, len(opening)).to(opening), opening, late)


def silence(waveform: Tensor, frames: int) -> Tensor:
    """Frames without speech: at least 0.2 s in which the sound is 30 dB below the level of speech; [frames] bool.

    The level of speech is the 90 % quantile of the frames' root mean squares; noise in a recording may hide silence.

    Args:
        waveform: [N] at 16 kHz.
        frames: T, 25 a second.
    """
    loudness = frame_loudness(waveform, frames)
    quiet = loudness <= loudness.quantile(0.9) * 10 ** (-_SILENCE / 20)
    long = torch.zeros_like(quiet)
    for first, last in _runs(quiet):
        long[first:last] = last - first >= _SHORTEST_SILENCE
    return long


def motion_in_silence(opening: Tensor, silent: Tensor) -> float:
    """How much the mouth moves while nobody speaks: mean |change of opening| in silence over that in speech.

    0 or more, lower is better; NaN without silence or without speech.

    Args:
        opening: [T].
        silent: [T] bool, from `silence` of the driving sound.
    """
    change = opening.diff().abs()
    finite = change.isfinite()
    quiet, loud = silent[1:] & silent[:-1] & finite, ~silent[1:] & ~silent[:-1] & finite
    return float(change[quiet].mean() / change[loud].mean())


def opening_in_silence(opening: Tensor, silent: Tensor) -> float:
    """How far the mouth is open in silence: mean opening there, from 0 (its 2 % quantile) to 1 (its 90 % quantile).

    Lower is better; NaN without silence. Arguments as for `motion_in_silence`.
    """
    finite = opening.isfinite()
    rest, wide = opening[finite].quantile(torch.tensor([0.02, 0.9]).to(opening))
    return float((opening[finite & silent].mean() - rest) / (wide - rest))


@dataclass(frozen=True, kw_only=True)
class Closure:
    """Shares from 0 to 1.

    Args:
        kept: of the sounds p, b, m during which the lips close; higher is better.
        false: of the frames of other sounds in which they are closed; lower is better.
    """

    kept: float
    false: float


def lip_closure(opening: Tensor, bilabials: Tensor, others: Tensor) -> Closure:
    """Whether the lips close on p, b and m, and not elsewhere.

    Closed is an opening below 15 % of the clip's 95 % quantile. A sound p, b or m is kept if the lips are closed in a
    frame that it touches or in one next to those. Falsely closed are frames whose middle lies in another sound, if they
    are neither touched by p, b or m nor next to such a frame: there lips may still be closed, or close already.

    Args:
        opening: [T].
        bilabials, others: [N, 2] first and last moment of each sound, frames from the start of the clip (frame t lasts
            from t to t + 1). Leave pauses out of `others`.
    """
    closed = opening < _CLOSED * opening[opening.isfinite()].quantile(0.95)
    near = torch.zeros(len(opening), dtype=torch.bool)
    kept = []
    for start, end in bilabials.tolist():
        around = slice(max(0, int(start) - 1), int(np.ceil(end)) + 1)
        kept.append(bool(closed[around].any()))
        near[around] = True
    middle = torch.arange(len(opening)) + 0.5
    inside = ((middle >= others[:, :1]) & (middle < others[:, 1:])).any(dim=0)
    elsewhere = closed[inside & ~near & opening.isfinite()]
    return Closure(
        kept=float(np.mean(kept)) if kept else float("nan"),
        false=float(elsewhere.float().mean()) if len(elsewhere) else float("nan"),
    )


def blink_pose_coupling(series: ClipSeries) -> float:
    """Whether the head jerks with the lids: largest |correlation| of changes of the eyes' opening and of the pose.

    From 0 to 1, lower is better, to be read against that of the true clip: T frames of unrelated motion give about
    1.3 / sqrt(T). Pose: the six numbers of the fit, changes from frame to frame.
    """
    lids = series.eye_opening.mean(dim=1).diff()
    pose = torch.cat([series.euler, series.translation], dim=1).diff(dim=0)
    both = lids.isfinite() & pose.isfinite().all(dim=1)
    if both.sum() < 3:
        return float("nan")
    lids, pose = lids[both].expand(6, -1), pose[both].T
    scores = torch.stack([correlation(a[None], b[None], torch.ones(1, len(a))) for a, b in zip(lids, pose)])
    return float(scores.abs().max())


def eye_closure(eye_opening: Tensor, shut: Tensor) -> float:
    """What is left open at a full blink: least opening of either eye at each blink over the clip's open eye, mean.

    From 0 (shut) to about 1 (no blink), lower is better; MediaPipe sees about 0.1 to 0.3 on shut eyes. NaN without one.

    Args:
        eye_opening: [T, 2] of the made video.
        shut: [T] bool, where the eyes should be shut: from the driving motion, or `shut_eyes` of the true clip.
    """
    open_eye = torch.nanquantile(eye_opening, 0.75, dim=0)  # [2]
    blinks = [
        eye_opening[max(0, first - 1) : last + 1].nan_to_num(nan=torch.inf).amin(0) for first, last in _runs(shut)
    ]
    shares = torch.stack(blinks) / open_eye if blinks else eye_opening.new_full((1, 2), torch.nan)
    return float(shares[shares.isfinite()].mean())


def shut_eyes(eye_opening: Tensor) -> Tensor:
    """Frames in which both eyes are open by less than 40 % of the clip's open eye; [T, 2] -> [T] bool."""
    return (eye_opening < 0.4 * torch.nanquantile(eye_opening, 0.75, dim=0)).all(dim=1)


def _runs(mask: Tensor) -> list[tuple[int, int]]:
    """First and one past the last frame of each run of True in [T]."""
    edges = F.pad(mask.int(), (1, 1)).diff()
    return list(zip(edges.eq(1).nonzero().flatten().tolist(), edges.eq(-1).nonzero().flatten().tolist()))
