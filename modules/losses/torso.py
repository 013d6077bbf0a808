"""Losses of the torso model as pure functions: its occlusion maps, and key points that are learned (face-vid2vid).

See docs/spec/sr_torso_eg3d.md#5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def occlusion_area(occlusion: Tensor, torso_mask: Tensor | None = None, inside_weight: float = 0.3) -> Tensor:
    """Mean of the occlusion map, weighed down where the torso of the target frame is.

    Args:
        occlusion: [B, 1, H, W] in [0, 1].
        torso_mask: boolean [B, 1, h, w], true on the dilated torso of the target; None: weight 1 everywhere.
        inside_weight: weight on the torso (`torso_occlusion_reg_unmask_factor` of the released configs).
    """
    occlusion = occlusion.float()
    if torso_mask is None:
        return occlusion.mean()
    outside = F.interpolate((~torso_mask).float(), size=occlusion.shape[-2:], mode="nearest")
    return (occlusion * (outside + inside_weight * (1 - outside))).mean()


def torso_cover(occlusion: Tensor, torso: Tensor, head: Tensor) -> Tensor:
    """Squared error of the torso's cover of the background against its known mask; free behind the head.

    Mean over torso pixels plus mean over the others, pooled over the batch.

    Args:
        occlusion: [B, 1, H, W] in [0, 1], the share of the background that the torso covers.
        torso, head: boolean [B, 1, H, W], disjoint.
    """
    error, rest = (occlusion.float() - torso.float()).square(), ~(torso | head)
    return sum((error * part).sum() / part.sum().clamp(min=1) for part in (torso, rest))


def torso_l1(image: Tensor, target: Tensor, torso: Tensor) -> Tensor:
    """Mean absolute error of images [B, 3, H, W] where the torso can be seen; torso: boolean [B, 1, H, W]."""
    return ((image.float() - target).abs() * torso).sum() / (3 * torso.sum()).clamp(min=1)


def keypoint_spread(points: Tensor, least: float = 0.1) -> Tensor:
    """How far the squared distances of key points [B, K, 3] in [-1, 1] fall below `least`, mean over the pairs."""
    pairs = torch.triu_indices(points.shape[1], points.shape[1], offset=1, device=points.device)
    squared = (points[:, pairs[0]] - points[:, pairs[1]]).square().sum(dim=-1)
    return F.relu(least - squared).sum() / max(squared.numel(), 1)


def random_affine(count: int, generator: torch.Generator) -> Tensor:
    """Small turns, scalings and shifts of an image whose sides reach from -1 to 1 -> [count, 2, 3]."""
    limits = torch.tensor([[0.3], [0.1], [0.1], [0.1]])  # radians, share, and half image widths
    angle, size, *shift = (2 * torch.rand(4, count, generator=generator) - 1) * limits
    cosine, sine = (1 + size) * angle.cos(), (1 + size) * angle.sin()
    return torch.stack([cosine, -sine, shift[0], sine, cosine, shift[1]], dim=-1).unflatten(-1, (2, 3))


def transformed(image: Tensor, matrices: Tensor) -> Tensor:
    """Images [B, C, H, W] that show at the point p what `image` shows at the point M p; matrices M [B, 2, 3]."""
    grid = F.affine_grid(matrices.to(image), list(image.shape), align_corners=True)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def keypoint_equivariance(points: Tensor, moved: Tensor, matrices: Tensor) -> Tensor:
    """Key points must move with the image: mean absolute distance of `points` and M `moved`, x and y alone.

    Args:
        points: [B, K, 3] in [-1, 1], predicted on an image.
        moved: [B, K, 3], predicted on `transformed(image, matrices)`.
        matrices: [B, 2, 3].
    """
    matrices = matrices.to(moved)
    back = (moved[..., None, :2] * matrices[:, None, :, :2]).sum(dim=-1) + matrices[:, None, :, 2]
    return (points[..., :2] - back).abs().mean()
