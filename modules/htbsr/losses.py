"""Losses of the torso model as pure functions: sharp torso occlusion, and occlusion only where a torso can be."""

import torch
import torch.nn.functional as F
from torch import Tensor


def occlusion_entropy(occlusion: Tensor) -> Tensor:
    """Mean binary entropy in bits of a map in [0, 1]: small when every pixel is clearly torso or clearly not."""
    a = occlusion.float().clamp(1e-5, 1 - 1e-5)
    return (-a * torch.log2(a) - (1 - a) * torch.log2(1 - a)).mean()


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
