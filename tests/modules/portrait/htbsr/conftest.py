"""A tiny HTB-SR: 32-pixel pictures."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig
from modules.rendering.superresolution import SuperresolutionConfig

# fmt: off
TORSO = TorsoConfig(image_size=16, depth=3, volume_channels=4, appearance_channels=4, appearance_blocks=1,
                    motion_channels=(6, 8), motion_features=5, head_channels=4, head_blocks=1, generator_channels=8,
                    generator_blocks=1, occlusion_channels=4, outer_kernel=3, field_kernel=3, map_kernel=3,
                    mask_dilation=3)
# fmt: on
SUPERRESOLUTION = SuperresolutionConfig(
    resolution=8, feature_channels=6, middle_channels=8, output_channels=6, w_dim=4, noise=False
)


@pytest.fixture
def tiny() -> HTBSRConfig:
    return HTBSRConfig(superresolution=SUPERRESOLUTION, torso=TORSO, bottleneck=4, fusion_channels=6, alpha_channels=4)


@pytest.fixture
def portrait(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Torso picture, one-hot classes and background of one portrait."""
    torso, background = (torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2))
    index = torch.randint(0, 6, (1, 8, 8), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    return torso, F.one_hot(index, 6).permute(0, 3, 1, 2).float(), background


@pytest.fixture
def frames(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Feature images, ray weights, landmarks of the photo and of three frames."""
    feature = torch.randn(3, 6, 8, 8, generator=generator) / 2
    weights = torch.rand(3, 1, 8, 8, generator=generator)
    points = torch.rand(4, 68, 3, generator=generator) * 2 - 1
    points[..., 2] = 0
    return feature, weights, points[:1], points[1:]
