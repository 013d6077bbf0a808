"""Landmark displacements of a face model: ten times its linear part, without the mean.

See docs/spec/audio2motion.md#4-2.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from modules.face3d.landmark_sets import MOUTH_68
from modules.face3d.morphable_model import MorphableModel
from modules.layers.precision import full_precision

KeypointSet = Literal["lm468", "lm68", "lip"]
SCALE = 10.0


class Keypoints(nn.Module):
    """Displacements of landmarks: linear in the coefficients, without the mean shape.

    Args:
        model: with 68 landmarks, and 468 for the set "lm468".
        keypoints: the landmarks: all 468, all 68, or the 20 of the mouth among the 68.
    """

    identity_basis: Tensor  # [P, 80] 0.1 dm per unit of the coefficient
    expression_basis: Tensor  # [P, 64] the same

    def __init__(self, model: MorphableModel, keypoints: KeypointSet) -> None:
        super().__init__()
        _, identity, expression = model.landmark_basis(468 if keypoints == "lm468" else 68)
        chosen = MOUTH_68 if keypoints == "lip" else slice(None)
        for name, basis in (("identity_basis", identity), ("expression_basis", expression)):
            self.register_buffer(name, SCALE * rearrange(basis[chosen], "l c k -> (l c) k"))

    @full_precision()
    def forward(self, identity: Tensor, expression: Tensor) -> Tensor:
        """identity [B, 80], expression [B, T, 64] -> displacements [B, T, P], point-major xyz, 0.1 dm."""
        shape = torch.einsum("bk,pk->bp", identity, self.identity_basis)
        return torch.einsum("btk,pk->btp", expression, self.expression_basis) + shape[:, None]
