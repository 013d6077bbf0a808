"""Sync metrics: how well a sync network knows which speech belongs to which lips."""

import torch
from torch import Tensor

from modules.audio.syncnet import AUDIO_WINDOW, WINDOW, SyncNet, windows


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
