"""Procedural backgrounds: soft rooms, gradients and lights out of focus."""

import torch
from torch import Tensor


def backdrop(seed: int, size: int) -> Tensor:
    """The background of a seed, the same scene at every size: [3, size, size] in [-1, 1]."""
    generator = torch.Generator().manual_seed(77_000_000 + seed)
    centres = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    tones = torch.rand(3, 3, generator=generator) * 0.35 + 0.25 + 0.30 * torch.rand(1, 1, generator=generator)
    angle = torch.rand(1, generator=generator) * 6.2832
    slope = (0.5 + 0.6 * ((u - 0.5) * angle.cos() + (v - 0.5) * angle.sin())).clamp(0, 1)
    tones = tones.mean(dim=1, keepdim=True) + 0.6 * (tones - tones.mean(dim=1, keepdim=True))
    picture = tones[0, :, None, None] * (1 - slope) + tones[1, :, None, None] * slope
    kind = int(torch.randint(4, (1,), generator=generator))
    for _ in range((4, 9, 0, 6)[kind]):
        picture = _shape(picture, u, v, kind, generator)
    glow = torch.exp(-(((u - 0.5) ** 2 + (v - 0.45) ** 2) / 0.16))
    return ((picture * (0.86 + 0.16 * glow)).clamp(0, 1) * 2 - 1).float()


def _shape(picture: Tensor, u: Tensor, v: Tensor, kind: int, generator: torch.Generator) -> Tensor:
    """One blurred panel (kind 0, 3) or one light out of focus (kind 1) over the picture."""
    x, y, width, height, soft = torch.rand(5, generator=generator).tolist()
    colour = (torch.rand(3, generator=generator) * 0.5 + 0.35)[:, None, None]
    if kind == 1:
        distance = ((u - x) ** 2 + (v - y) ** 2).sqrt() - (0.03 + 0.08 * width)
        share = 0.45 * torch.sigmoid(-distance / (0.006 + 0.01 * soft))
    else:
        inside = torch.maximum((u - x).abs() - 0.06 - 0.2 * width, (v - y).abs() - 0.1 - 0.4 * height)
        share = 0.55 * torch.sigmoid(-inside / (0.008 + 0.03 * soft))
    return picture + share * (colour - picture)
