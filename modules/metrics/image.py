"""Image metrics: how near a prediction is to its target."""

import torch
from torch import Tensor


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio: -10 log10 of the mean squared error of images scaled to [0, 1].

    Higher is better: 0 dB for black instead of white, about 30 dB for a good likeness, at most 100 dB (equal images).

    Args:
        prediction, target: [B, 3, H, W] in [-1, 1]; the prediction is clamped to that range.
    Returns:
        dB, mean over the B images' own ratios.
    """
    error = ((prediction.float().clamp(-1, 1) - target.float()) / 2).square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(error.clamp(min=1e-10))).mean()
