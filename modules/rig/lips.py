"""Lips that close over a mouth which the photo shows open: their edges take the colour of the lips' red.

The landmarks of the inner lips lie a little inside the opening, where the photo shows teeth; when the lips meet, a
bright seam of them would remain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.rig.landmark_mesh import LOWER_LIP, UPPER_LIP, PhotoMesh

# fmt: off
_RED = (183, 42, 41, 38, 12, 268, 271, 272, 407, 96, 89, 179, 86, 15, 316, 403, 319, 325)  # beside each of LIP_EDGES
# fmt: on
LIP_EDGES = (*UPPER_LIP, *LOWER_LIP)
_SHARE = 0.9  # of the way to the red that the edges' place in the photo goes


@dataclass(frozen=True)
class LipSkin:
    """Where the edges of the lips find their colour.

    Attributes:
        rows: [18] of the landmarks; change: [18, 2], of their places in the photo when the lips meet, fractions.
    """

    rows: Tensor
    change: Tensor

    @classmethod
    def of(cls, mesh: PhotoMesh) -> "LipSkin":
        """From the landmarks of the photo."""
        rows = torch.tensor(LIP_EDGES)
        return cls(rows, _SHARE * (mesh.places[list(_RED)] - mesh.places[rows]))

    def moved(self, sealed: Tensor) -> Tensor:
        """Changes [B, 18, 2] of the places of `rows`, for lips sealed by `sealed` [B, 9] in [0, 1]."""
        return sealed.repeat(1, 2)[..., None] * self.change
