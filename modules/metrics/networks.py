"""The networks that metrics need, by name: a loaded one, or what is missing and how to get it. Nothing is downloaded.

| name | gives | used by |
| --- | --- | --- |
| csim_arcface | identity vectors, the usual | `identity.csim` |
| csim_dlib | identity vectors, from a package alone | `identity.csim` |
| lpips_alex, lpips_vgg | perceptual distance | itself |
| inception | 2048 features | `distribution` |
| face_alignment | 68 landmarks | `motion.akd` |
| syncnet | lip-sync scores | itself |
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from modules.metrics.sync import SyncScore

NAMES = ("csim_arcface", "csim_dlib", "lpips_alex", "lpips_vgg", "inception", "face_alignment", "syncnet")

IdentityNetwork = Callable[[Tensor, Tensor], Tensor]
"""(frames [B, H, W, 3] uint8 RGB, landmarks [B, 478, 2] pixels of MediaPipe) -> vectors [B, D] float32, not normalised;
NaN rows where the landmarks are NaN."""
PerceptualNetwork = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(made, truth [B, 3, H, W] in [0, 1], mask [B, 1, H, W] or None) -> distances [B], lower is better."""
FeatureNetwork = Callable[[Tensor], Tensor]
"""images [B, 3, H, W] in [0, 1] -> features [B, 2048]."""
LandmarkNetwork = Callable[[Tensor, Tensor], Tensor]
"""(frames [B, H, W, 3] uint8 RGB, landmarks [B, 478, 2] pixels, for the box) -> iBUG points [B, 68, 2] pixels."""
LipSyncNetwork = Callable[[Tensor, Tensor, Tensor], SyncScore]
"""(frames [T, H, W, 3] uint8 RGB, landmarks [T, 478, 2] pixels, waveform [N] at 16 kHz) -> `sync.SyncScore`."""


@dataclass(frozen=True)
class Missing:
    """A network that is not here.

    Args:
        name: of the network.
        how_to_get: one line: what is missing and the command or page that mends it.
    """

    name: str
    how_to_get: str


def load(name: str, device: torch.device | str = "cpu") -> Callable | Missing:
    """A network by name, ready to be called, or `Missing`.

    Args:
        name: one of NAMES.
        device: where it runs; ArcFace, dlib and the crops always run on the CPU.
    Raises:
        UserError: a file is here but is not what it should be.
        ValueError: an unknown name.
    """
    raise NotImplementedError  # the next commit
