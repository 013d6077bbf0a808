"""The person's own edges, as of a cheek before the hair, where the geometry is coarse and the frame is fine.

Along an edge what is nearer and what is farther are two fields, each continued under the other, and the share of the
nearer is a smooth step: so a frame can look up both and mix them, where the nearest pixel of the geometry would give
stairs.
"""

import torch
from torch import Tensor

from modules.rig.filters import gaussian, greatest

_WINDOW, _BLUR = 11, 5  # pixels a side in which near and far are told apart, and by which values are continued
SEEN_AROUND = (_WINDOW + _BLUR) // 2  # pixels around an edge that say something of its two sides
_SIGMA = 1.0
_NOWHERE = 1e6  # dm, farther than anything
_LEAST = 1e-3  # weight in the window from which a side counts


def sum_sides(values: Tensor, depth: Tensor) -> Tensor:
    """Weighted sums of the nearer and of the farther surface around each pixel.

    A pixel is near if its depth is below the middle between the least and the greatest of its window.

    Args:
        values: [B, G, G, K] of the surfaces.
        depth: [B, G, G] dm from the camera, 0 where nothing is.
    Returns:
        [B, G, G, 2 K + 2]: sums and weight of the nearer, sums and weight of the farther; `means_of_sides` reads them.
    """
    if not depth.numel():
        return values.new_zeros(*depth.shape, 2 * values.shape[-1] + 2)
    person = depth > 0
    least = -greatest(torch.where(person, -depth, -_NOWHERE), _WINDOW)
    near = person & (depth <= (least + greatest(depth, _WINDOW)) / 2)
    sides = []
    for side in (near, person & ~near):
        weight = side[..., None].to(values.dtype)
        sides.append(gaussian(torch.cat([values * weight, weight], dim=-1), _BLUR, _SIGMA))
    return torch.cat(sides, dim=-1)


def means_of_sides(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of what `sum_sides` gave, or of what lies between its pixels.

    Args:
        sums: [N, 2 K + 2].
    Returns:
        Values of the nearer and of the farther [N, K], equal where there is only one, and the share [N] of the nearer
        in [0, 1].
    """
    near, far = sums.chunk(2, dim=1)
    a, b = near[:, -1:], far[:, -1:]
    nearer, farther = near[:, :-1] / a.clamp(min=1e-6), far[:, :-1] / b.clamp(min=1e-6)
    share = (a / (a + b).clamp(min=1e-6)).squeeze(1)
    return torch.where(a > _LEAST, nearer, farther), torch.where(b > _LEAST, farther, nearer), share
