"""The panels of a debug video: what the model reads and makes of each frame, side by side."""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.layers.resample import resize
from modules.portrait.driving import Driving
from modules.portrait.real3d_portrait import PortraitOutput


def debug_panels(source: Tensor, driving: Driving, output: PortraitOutput) -> Tensor:
    """Source, PNCC, raw render, depth and final picture.

    Args:
        source: [1, 3, any, any] in [-1, 1], the photo.
        driving: camera and PNCCs of B frames.
        output: the model's output for them.
    Returns:
        [B, 3, S, 5 S] in [-1, 1].
    """
    size = output.image.shape[-1]
    distance = torch.linalg.vector_norm(driving.camera.camera_to_world[:, :3, 3], dim=-1).view(-1, 1, 1, 1)
    depth = (2 * (distance - output.rendered.depth)).clamp(-1, 1)  # near bright, half of the box = 1
    panels = (
        resize(source.to(output.image), size).expand_as(output.image),
        driving.pncc.driving,
        output.image_raw,
        depth.expand(-1, 3, -1, -1),
        output.image,
    )
    return torch.cat([F.interpolate(p.float(), size=(size, size), mode="nearest") for p in panels], dim=-1)
