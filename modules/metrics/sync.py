"""Sync metrics: how well a sync network knows which speech belongs to which lips."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.audio.syncnet import AUDIO_WINDOW, WINDOW, SyncNet, windows
from modules.media.rates import FRAME_RATE

REACH = 15  # frames, of the published evaluation


def sync_accuracy(sync: SyncNet, audio: Tensor, points: Tensor, mask: Tensor, shift: int = 5) -> tuple[Tensor, Tensor]:
    """How often speech and lips seem more in sync as they are than with speech `shift` frames early, and than late.

    Shares from 0 to 1, higher is better: by chance 1/3 of the clips and 1/2 of the windows.

    Args:
        sync: the network.
        audio: [B, Tx, A] features at 50 Hz.
        points: [B, T, P] landmark displacements in 0.1 dm at 25 Hz.
        mask: [B, T], 1 on real frames.
        shift: frames of 25 a second.
    Returns:
        Share of clips, by the mean cosine over all windows and against both shifts, and share of single windows
        against one shift (silent ones, which nobody can tell apart, included).
    """
    frames, clips = points.shape[1], len(points)
    starts = torch.arange(shift, frames - WINDOW - shift + 1, device=points.device)
    mouth = sync.embed_mouth(windows(points, starts, WINDOW))
    reach = windows(mask[..., None], starts - shift, WINDOW + 2 * shift)
    real = reach.amin(dim=(1, 2)).view(-1, clips)  # [windows, B]

    def confidence(offset: int) -> Tensor:
        speech = sync.embed_audio(windows(audio, 2 * (starts + offset), AUDIO_WINDOW))
        return (speech * mouth).sum(-1).view(-1, clips) * real

    here, early, late = confidence(0), confidence(-shift), confidence(shift)
    single = ((here > early).float() + (here > late).float()) / 2
    return ((here.sum(0) > torch.maximum(early.sum(0), late.sum(0))).float().mean(), (single * real).sum() / real.sum())


@dataclass(frozen=True, kw_only=True)
class SyncScore:
    """How well lips and speech agree.

    Args:
        distance: LSE-D, mean distance of embeddings at the best offset; 0 or more, lower is better.
        confidence: LSE-C, median over the offsets minus `distance`; 0 or more, higher is better. The paper's "Sync".
        offset: frames by which the speech must be moved to fit best, positive if the speech is early; 0 is best.
    """

    distance: float
    confidence: float
    offset: int


def sync_score(speech: Tensor, lips: Tensor, reach: int = REACH) -> SyncScore:
    """Lip-sync error of Wav2Lip's evaluation (Chung and Zisserman, "Out of time", 2016; Prajwal and others, 2020).

    For every window the Euclidean distances of its lips to the speech `offset` windows later, offset -15 to 15; these
    are averaged over windows; the least is the distance. Beyond the ends the speech is zeros, as in the published
    evaluation, so clips of less than about 2 s are not comparable.

    Args:
        speech, lips: [N, D] embeddings of windows that start one frame after the other.
        reach: largest offset, frames.
    """
    if speech.shape != lips.shape or not len(lips):
        raise ValueError(f"speech {tuple(speech.shape)} and lips {tuple(lips.shape)} must be alike [N, D]")
    padded = F.pad(speech.float(), (0, 0, reach, reach)).unfold(0, len(lips), 1)  # [2 reach + 1, D, N]
    return _best(F.pairwise_distance(padded.transpose(1, 2), lips.float()).mean(dim=1))


def _best(distances: Tensor) -> SyncScore:
    """The score of mean distances at the offsets from -reach to reach, [2 reach + 1]."""
    best = int(distances.argmin())
    distance = float(distances[best])
    confidence = float(distances.median()) - distance
    return SyncScore(distance=distance, confidence=confidence, offset=len(distances) // 2 - best)


@dataclass(frozen=True, kw_only=True)
class SoundLag:
    """By how much the sound of a clip comes after its lips.

    Args:
        frames: of 25 a second, with fractions; negative if the sound comes before the lips.
        confidence: how much nearer speech and lips are then than at the median of all lags: below about 0.07 by
            chance, real talk 0.09 to 0.25.
    """

    frames: float
    confidence: float


def sound_lag(sync: SyncNet, audio: Tensor, points: Tensor, reach: int) -> SoundLag | None:
    """The lag at which speech and lips are nearest, of half frames from -reach to reach, refined by a parabola.

    Args:
        sync, audio, points: as of `own_sync_score`.
        reach: largest lag, frames; at most a quarter of the clip's length.
    Returns:
        None for clips of less than a second.
    """
    starts = torch.arange(min(len(points), len(audio) // 2) - WINDOW + 1, device=points.device)
    if len(starts) < FRAME_RATE - WINDOW:
        return None
    lips = sync.embed_mouth(windows(points[None], starts, WINDOW))
    halves = torch.arange(len(audio) - AUDIO_WINDOW + 1, device=points.device)
    speech = sync.embed_audio(windows(audio[None], halves, AUDIO_WINDOW))
    most = 2 * min(reach, len(starts) // 4)  # half frames
    means = []
    for late in range(-most, most + 1):
        heard = 2 * starts + late
        inside = (heard >= 0) & (heard < len(speech))
        means.append(F.pairwise_distance(speech[heard[inside]], lips[inside]).mean())
    distances = torch.stack(means)
    best = int(distances.argmin())
    step = 0.0
    if 0 < best < 2 * most:
        before, here, after = distances[best - 1 : best + 2].tolist()
        step = 0.5 * (before - after) / max(before - 2 * here + after, 1e-9)
    confidence = float(distances.median() - distances[best])
    return SoundLag(frames=(best - most + step) / 2, confidence=confidence)


def own_sync_score(sync: SyncNet, audio: Tensor, points: Tensor, reach: int = REACH) -> SyncScore:
    """`sync_score` of this project's own SyncNet, which sees landmarks: the column `sync_own`.

    Its scale has nothing to do with that of the published network: distances of unit vectors, 0 to 2. At each offset
    the mean is over the windows that lie within both: zeros beyond the ends would be nearer to unit vectors than these
    are to each other.

    Args:
        sync: the network of stage SyncNet; not the one that the tested audio-to-motion was trained with.
        audio: [Tx, A] features at 50 Hz of the kind that it was trained on, Tx at least 2 T.
        points: [T, P] landmark displacements in 0.1 dm (`Keypoints` of its kind), 25 Hz, T at least 6.
        reach: largest offset, frames; less if the clip is shorter.
    """
    starts = torch.arange(min(len(points), len(audio) // 2) - WINDOW + 1, device=points.device)
    lips = sync.embed_mouth(windows(points[None], starts, WINDOW))
    speech = sync.embed_audio(windows(audio[None], 2 * starts, AUDIO_WINDOW))
    count = len(lips)
    reach = min(reach, count - 1)
    parts = [(max(0, -late), min(count, count - late)) for late in range(-reach, reach + 1)]
    means = [
        F.pairwise_distance(speech[first + late : last + late], lips[first:last]).mean()
        for late, (first, last) in zip(range(-reach, reach + 1), parts)
    ]
    return _best(torch.stack(means))
