"""The losses of the image stages as pure functions (docs/spec/training.md#2, docs/spec/sr_torso_eg3d.md#9-4).

Images are [B, 3, H, W] in [-1, 1], masks boolean [B, 1, H, W]; each function returns a scalar unless it says so.
Perceptual losses are in perceptual.py.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from modules.face3d.landmark_sets import OUTER_LIPS_68


def weighted_l1(
    prediction: Tensor, target: Tensor, weight: Tensor, squared: bool = False, pooled: bool = False
) -> Tensor:
    """Robust error of every pixel, summed over the channels, weighted and limited (docs/spec/training.md#2-1).

    Args:
        prediction: [B, C, H, W].
        target: [B, C, H, W].
        weight: 0 or more, broadcasts to [B, 1, H, W].
        squared: squares instead of absolute differences.
        pooled: one limit for the whole batch, as the original has it; otherwise one a sample.
    Returns:
        Mean over samples and pixels. Errors above the larger of 0.5 and their 0.8-quantile count as that limit
        (and have no gradient).
    """
    difference = prediction - target
    error = (difference.square() if squared else difference.abs()).sum(dim=1, keepdim=True) * weight
    limit = error.detach().float()
    limit = limit.quantile(0.8) if pooled else limit.flatten(1).quantile(0.8, dim=1)[:, None, None, None]
    return error.clamp(min=0).minimum(limit.clamp(min=0.5).to(error.dtype)).mean()


def masked_l1(
    prediction: Tensor, target: Tensor, mask: Tensor, outside: float = 0.1, squared: bool = False, pooled: bool = False
) -> Tensor:
    """`weighted_l1` with weight 1 where `mask` [B, 1, H, W] is True and `outside` elsewhere.

    See docs/spec/training.md#2-1.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"masked_l1: the mask is {mask.dtype}; it must be boolean")
    weight = torch.where(mask, 1.0, outside).to(prediction.dtype)
    return weighted_l1(prediction, target, weight, squared, pooled)


def edge_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the horizontal plus that of the vertical differences of neighbours, [B, C, H, W] each."""
    error = prediction - target
    return (error[..., :, 1:] - error[..., :, :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()


def dilate(mask: Tensor, kernel: int = 41) -> Tensor:
    """Maximum over a square of odd side `kernel`, borders reflected; boolean [B, 1, H, W] in and out.

    See docs/spec/training.md#2-2.
    """
    radius = (kernel - 1) // 2
    padded = F.pad(mask.float(), (radius,) * 4, mode="reflect")
    rows = F.max_pool2d(padded, (kernel, 1), stride=1)
    return F.max_pool2d(rows, (1, kernel), stride=1) > 0


def resize_mask(mask: Tensor, size: int) -> Tensor:
    """Every (H / size)-th pixel of a boolean mask [B, 1, H, W], from the first -> [B, 1, size, size].

    See docs/spec/training.md#2-2.
    """
    return F.interpolate(mask.float(), size=(size, size), mode="nearest") > 0


def adversarial_fake(logits: Tensor) -> Tensor:
    """The discriminator's loss of generated images, from their logits [B, 1] (docs/spec/training.md#2-4)."""
    return F.softplus(logits).mean()


def adversarial_real(logits: Tensor) -> Tensor:
    """Loss of logits [B, 1] that should say "real": the discriminator's of real images, the generator's of its own.

    See docs/spec/training.md#2-4.
    """
    return F.softplus(-logits).mean()


def gradient_penalty(logits: Tensor, images: tuple[Tensor, ...]) -> Tensor:
    """R1: squared gradients of the summed logits, summed over an image, mean over batch and images.

    See docs/spec/sr_torso_eg3d.md#9-4.

    Args:
        logits: [B, 1] of real images.
        images: the discriminator's inputs (image, image_raw), which require gradients; half the sum for two.
    """
    gradients = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return sum(g.square().flatten(1).sum(dim=1).mean() for g in gradients) / len(gradients)


def density_points(batch: int, points: int, step: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points uniform in the box [-0.5, 0.5)^3 (world units) and neighbours about `step` away -> 2 x [B, points, 3].

    See docs/spec/training.md#2-6.
    """
    base = torch.rand(batch, points, 3, generator=generator) - 0.5
    return base, base + step * torch.randn(batch, points, 3, generator=generator)


def density_l1(density: Tensor, neighbour: Tensor) -> Tensor:
    """Mean absolute difference of raw densities at neighbouring points, [B, N, 1] each (docs/spec/training.md#2-6)."""
    return (density - neighbour).abs().mean()


def laplacian_l1(centre: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Mean absolute distance of motion planes from the mean of their neighbours; any equal shapes.

    See docs/spec/training.md#2-7 and #2-8.
    """
    return (centre - (before + after) / 2).abs().mean()


def laplacian_squared(centre: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Laplacian loss (paper, motion adapter): squared norm of M(t) - (M(t - 1) + M(t + 1)) / 2, mean over the batch.

    Motion planes of three consecutive frames, any equal shapes [B, ...]. See docs/spec/training.md#2-7.
    """
    return (centre.float() - (before.float() + after.float()) / 2).square().sum() / len(centre)


def laplacian_mean(centre: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """`laplacian_squared` over the count of a sample's elements, so that it does not grow with the planes."""
    return laplacian_squared(centre, before, after) / centre[0].numel()


def perturbation_l1(base: Tensor, perturbed: Tensor) -> Tensor:
    """Mean absolute difference of the motion planes of a PNCC and of a perturbed one; any equal shapes.

    See docs/spec/training.md#2-7.
    """
    return (base - perturbed).abs().mean()


def tune_weight(weight: float, loss: float, target: float, limit: float, rate: float = 0.01) -> float:
    """Next value of an auto-tuned loss weight in [0, limit], which grows while the loss is above `target`.

    See docs/spec/training.md#2-7.
    """
    if target == 0:
        return 0.0
    step = math.log10(loss + 1e-15) - math.log10(target + 1e-15)
    return min(max(weight + rate * step, 0.0), limit)


def binary_entropy(alpha: Tensor) -> Tensor:
    """Mean entropy in bits of opacities or occlusions in [0, 1], any shape; 0 if all are 0 or 1.

    See docs/spec/training.md#2-5.
    """
    a = alpha.float().clamp(1e-5, 1 - 1e-5)
    return (-a * a.log2() - (1 - a) * (1 - a).log2()).mean()


def weights_mask(alpha: Tensor, head: Tensor) -> Tensor:
    """Squared error of the rays' accumulated weights against the head mask (docs/spec/training.md#2-5).

    Mean over head pixels plus mean over the others, pixels pooled over the batch; a class without pixels adds 0.

    Args:
        alpha: [B, 1, n, n] in [0, 1].
        head: boolean [B, 1, n, n].
    """
    a = alpha.float().clamp(1e-5, 1 - 1e-5)
    inside, outside = (1 - a).square() * head, a.square() * ~head
    return inside.sum() / head.sum().clamp(min=1) + outside.sum() / (~head).sum().clamp(min=1)


def lip_boxes(landmarks: Tensor, size: int = 512) -> Tensor:
    """Square boxes around the lips (docs/spec/training.md#2-3).

    Args:
        landmarks: [B, 68, 2] in pixels of an image of side `size`, x right, y down.
        size: pixels a side.
    Returns:
        int64 [B, 4]: x0, x1, y0, y1, ends exclusive; inside the image unless the lips are far outside it.
    """
    low, high = landmarks[:, OUTER_LIPS_68].amin(dim=1), landmarks[:, OUTER_LIPS_68].amax(dim=1)  # [B, 2]
    centre = ((low + high) / 2).trunc()
    half = ((high - centre) * 1.2).trunc().amax(dim=1, keepdim=True)  # [B, 1]
    start = (centre - half).clamp(min=0)
    start = torch.where(start + 2 * half > size, size - 2 * half, start)
    boxes = torch.stack([start, start + 2 * half], dim=-1)  # [B, 2, 2]
    return rearrange(boxes, "b xy end -> b (xy end)").long()


def lip_crops(image: Tensor, boxes: Tensor) -> list[Tensor | None]:
    """Crops [1, 3, h, h] of the images [B, 3, H, W] by `lip_boxes`; None where nothing of the box is inside."""
    crops = []
    for sample, (x0, x1, y0, y1) in zip(image, boxes.tolist()):
        crop = sample[None, :, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        crops.append(crop if crop.numel() else None)
    return crops


def lip_l1(prediction: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """Mean absolute error of the crops of images [B, 3, H, W] by `lip_boxes`, mean over samples; empty ones count 0.

    See docs/spec/training.md#2-3.
    """
    pairs = zip(lip_crops(prediction, boxes), lip_crops(target, boxes))
    terms = [(a - b).abs().mean() for a, b in pairs if a is not None and b is not None]
    return sum(terms, start=prediction.new_zeros(())) / len(prediction)
