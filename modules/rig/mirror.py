"""The unseen side of a turned face: its texture is that of the seen side, mirrored, in the light of its own."""

import numpy as np
import torch
from torch import Tensor

from modules.rig.config import REFERENCE
from modules.rig.filters import blur, grow, smoothstep, soft
from modules.rig.landmark_mesh import ALL_POINTS, MESH_POINTS, LandmarkModel, PhotoMesh


def mirror(front: np.ndarray, hair: np.ndarray, mesh: PhotoMesh, model: LandmarkModel) -> tuple[Tensor, Tensor]:
    """How far each landmark's own texture can be used, and the gain that fits its twin's to the light.

    Args:
        front: [REFERENCE, REFERENCE, 3], the person's colours, 0 to 255.
        hair: [REFERENCE, REFERENCE] bool; where the twin is hair nothing is mirrored.
    Returns:
        seen [478] in [0, 1] (1: own texture), and gain [478, 3].
    """
    at = (mesh.places * REFERENCE - 0.5).round().long().clamp(0, REFERENCE - 1)

    def pick(image: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(image, np.float32))[at[:, 1], at[:, 0]]

    twin, facing = model.twin, mesh.facing
    hairy = pick(smoothstep(2 * blur(grow(hair, 15), 4)))
    seen = torch.stack([soft((facing - 0.12) / 0.33), mesh.alike, hairy[twin]]).amax(0)
    shape = model.shape[:MESH_POINTS]
    both = ((facing > 0.45) & (facing[twin] > 0.45))[:MESH_POINTS]
    kernel = torch.exp(-((torch.cdist(shape, shape) / 0.2) ** 2)) * both + 1e-6
    low = pick(blur(front, 9)) + 8
    ratio = (low / low[twin]).clamp(0.15, 4)[:MESH_POINTS].log()
    gain = torch.ones(ALL_POINTS, 3)
    gain[:MESH_POINTS] = (kernel @ ratio / kernel.sum(1, keepdim=True)).exp()
    return seen, gain
