"""Losses of audio-to-motion and of the sync network, as pure functions.

See docs/spec/training.md#2-9, #2-10 and #2-11, docs/spec/audio2motion.md#4-2 and #5-3.

Sequences are [B, T, C]; masks [B, T], 1 on real frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.face3d.landmark_sets import EYES, INNER_LIP_MIDDLES, LIPS, UPPER_LIDS, landmark_weights

_NO_COUNTERPART = (93, 127, 132, 234, 323, 356, 361, 454)
_MEETING = 0.15  # of the range of the lips' distance
_HEAVY_68 = (*range(28, 31), *range(36, 48), *range(60, 68))


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """error [B, T, C], mask [B, T] -> mean over real frames and channels."""
    return (error * mask[..., None]).sum() / (mask.sum() * error.shape[-1])


def mean_square(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean square error over real frames: [B, T, C] twice, mask [B, T] -> scalar."""
    return masked_mean((prediction - target) ** 2, mask)


def magnitude(x: Tensor, mask: Tensor) -> Tensor:
    """Mean square of the values x [B, T, C] over real frames, mask [B, T]: a pull to the neutral face."""
    return masked_mean(x**2, mask)


def laplacian(x: Tensor, mask: Tensor) -> Tensor:
    """Laplacian loss (paper, audio-to-motion): mean square of x_t - (x_{t-1} + x_{t+1}) / 2.

    The mean is over frames whose neighbours are both real.

    Args:
        x: [B, T, C].
        mask: [B, T], 1 on real frames.
    """
    inner = mask[:, 1:-1] * mask[:, :-2] * mask[:, 2:]
    difference = x[:, 1:-1] - (x[:, :-2] + x[:, 2:]) / 2
    return (difference**2 * inner[..., None]).sum() / (inner.sum().clamp(min=1) * x.shape[-1])


def laplacian_zero_ends(x: Tensor, mask: Tensor) -> Tensor:
    """The official form of `laplacian`: the frames before the first and after the last one count as 0.

    x [B, T, C], mask [B, T]. Only tests against the original use it (docs/spec/training.md#2-9).
    """
    padded = F.pad(x, (0, 0, 1, 1))
    return masked_mean((x - (padded[:, :-2] + padded[:, 2:]) / 2) ** 2, mask)


def motion_weights(count: int) -> Tensor:
    """Weights [468] (eyes 3, upper lids 20, lips 5, some 0, others 1) or [68] (eyes, inner lips, nose 5, others 1)."""
    if count not in (68, 468):
        raise ValueError(f"no weights for {count} landmarks; use 68 or 468")
    return landmark_weights(
        count, ((_HEAVY_68, 5),) if count == 68 else ((EYES, 3), (UPPER_LIDS, 20), (LIPS, 5), (_NO_COUNTERPART, 0))
    )


def landmark_square(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean square error of landmarks [B, T, 3 L], point-major xyz, L = 68 or 468; mask [B, T]."""
    weights = motion_weights(prediction.shape[-1] // 3).to(prediction).repeat_interleave(3)
    return masked_mean((prediction - target) ** 2 * weights, mask)


def closure(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean square of how far the lips stand apart in frames in which they should meet.

    They meet where the target's gap is within 15 % of its range above the least of the clip. A squared error of all
    frames leaves lips slightly apart wherever it is in doubt; p, b and m are seen as missed then.

    Args:
        prediction, target: landmarks [B, T, 3 * 468], point-major xyz; displacements will do.
        mask: [B, T], 1 on real frames.
    """
    upper, lower = (3 * point + 1 for point in INNER_LIP_MIDDLES)
    made, true = (points[..., upper] - points[..., lower] for points in (prediction, target))
    real = mask > 0
    least = true.masked_fill(~real, torch.inf).amin(dim=1, keepdim=True)
    most = true.masked_fill(~real, -torch.inf).amax(dim=1, keepdim=True)
    meet = real & (true - least < _MEETING * (most - least))
    return ((made - true).clamp(min=0) ** 2 * meet).sum() / meet.sum().clamp(min=1)


def kl_flow(mean: Tensor, log_scale: Tensor, latent: Tensor, prior_latent: Tensor, mask: Tensor) -> Tensor:
    """One-sample KL between the posterior and a flow prior; may be negative for a batch (docs/spec/training.md#2-10).

    Args:
        mean, log_scale, latent, prior_latent: [B, C, S], as in `Reconstruction`.
        mask: [B, 1, S], 1 on real frames.
    """
    posterior = -log_scale - 0.5 * ((latent - mean) * torch.exp(-log_scale)) ** 2
    divergence = posterior + 0.5 * prior_latent**2  # the constants of the two densities cancel
    return (divergence * mask).sum() / (mask.sum() * mean.shape[1])


def kl_normal(mean: Tensor, log_scale: Tensor, mask: Tensor) -> Tensor:
    """KL of N(mean, scale) from N(0, 1): [B, C, S] twice, mask [B, 1, S]."""
    divergence = 0.5 * (torch.exp(2 * log_scale) + mean**2 - 1) - log_scale
    return (divergence * mask).sum() / (mask.sum() * mean.shape[1])


def kl_weight(step: int, weight: float, rise: int = 2000, hold: int = 2000) -> float:
    """Cyclic annealing: in each cycle from 0 to `weight` in `rise` steps, then `weight` for `hold` steps."""
    return weight * min(1.0, (step % (rise + hold)) / rise)


def binary_cross_entropy(probability: Tensor, labels: Tensor) -> Tensor:
    """-y log d - (1 - y) log(1 - d), logs not below -100, d clamped to [0, 1]; any shape -> the same, float32."""
    d = probability.float().clamp(0, 1)  # rounding can give a cosine above 1
    return F.binary_cross_entropy(d, labels.float(), reduction="none")


def mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of the values [N] where `valid` [N] is 1; 0 if none is."""
    weights = valid.to(values)
    return (values * weights).sum() / weights.sum().clamp(min=1)
