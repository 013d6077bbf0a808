"""Landmark displacements of a face model: ten times its linear part, without the mean.

See docs/spec/audio2motion.md#4-2.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from modules.face3d.landmark_sets import MOUTH_68
from modules.face3d.morphable_model import MorphableModel

KeypointSet = Literal["lm468", "lm68", "lip"]
SCALE = 10.0


class Keypoints(nn.Module):
    """Which landmarks move where: linear in the coefficients, without the mean shape."""

    identity_basis: Tensor           # [P, 80]
    expression_basis: Tensor         # [P, 64]

    def __init__(self, model: MorphableModel, keypoints: KeypointSet) -> None:
        super().__init__()
        _, identity, expression = model.landmark_basis(468 if keypoints == "lm468" else 68)
        chosen = MOUTH_68 if keypoints == "lip" else slice(None)
        for name, basis in (("identity_basis", identity), ("expression_basis", expression)):
            self.register_buffer(name, SCALE * rearrange(basis[chosen], "l c k -> (l c) k"))

    def forward(self, identity: Tensor, expression: Tensor) -> Tensor:
        """identity [B, 80], expression [B, T, 64] -> displacements [B, T, P], point-major xyz, 0.1 dm."""
        shape = torch.einsum("bk,pk->bp", identity, self.identity_basis)
        return torch.einsum("btk,pk->btp", expression, self.expression_basis) + shape[:, None]
