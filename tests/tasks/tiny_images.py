"""Tiny models, clips and batches for the tests of the image stages: 32-pixel images, 8-pixel renders."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modules.clips.fields import FIELDS
from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.losses.perceptual import PerceptualLoss, PerceptualLossConfig, VGGFeaturesConfig
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminatorConfig
from modules.portrait.driving import DrivingConfig
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.learning_rates import ImageLearningRates
from tests.tiny import tiny_portrait_config

SIZE, RAW = 32, 8
ADVERSARY = AdversaryConfig(
    discriminator=DualDiscriminatorConfig(resolution=SIZE, base_channels=256, max_channels=8, mapping_layers=1)
)
RATES = ImageLearningRates(schedule="linear", warmup=1)


def tiny_model(stage: int, **changes: object) -> Real3DPortraitConfig:
    """The tiny model with images of 32 pixels, driven by the procedural face model."""
    return tiny_portrait_config(stage, picture_size=SIZE, driving=DrivingConfig.demo(), **changes)


def write_tiny_clips(folder: Path, clips: int = 3, frames: int = 6) -> None:
    """Clips of noise with a head of class 3 over a torso of class 4, PNCCs included."""
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    classes = np.zeros((frames, SIZE, SIZE), np.uint8)
    classes[:, 6:20, 8:24], classes[:, 20:, 4:28] = 3, 4
    for number in range(clips):
        face = FaceCoefficients.neutral(frames).replace(
            expression=0.1 * torch.rand(frames, 64, generator=generator),
            translation=torch.tensor([[0, 0, -5.0]] * frames),
        )
        write_clip(
            folder / f"clip_{number}",
            ClipContent(
                frames=random.integers(0, 255, (frames, SIZE, SIZE, 3), dtype=np.uint8),
                classes=classes,
                background=np.full((SIZE, SIZE, 3), 90, np.uint8),
                face=face,
                face_model="procedural",
                landmarks=np.zeros((frames, 68, 2)),
                pncc=random.integers(0, 255, (frames + 1, 3, SIZE, SIZE), np.uint8),
            ),
        )


def view_batch(generator: torch.Generator, views: int = 3) -> dict[str, Tensor]:
    """A batch as of `CachedViews`, of noise with a square head."""
    masks = torch.zeros(2, views, SIZE, SIZE, dtype=torch.bool)
    masks[..., 6:26, 8:24] = True
    images = torch.randint(256, (2, views, 3, SIZE, SIZE), generator=generator) * masks[:, :, None]
    return {
        "images": images.to(torch.uint8),
        "masks": masks,
        "euler": 0.3 * torch.randn(2, views, 3, generator=generator),
        "translation": torch.tensor([0.0, 0.0, -5.0]).repeat(2, views, 1),
    }


def pair_batch(generator: torch.Generator, batch: int = 2) -> dict[str, Tensor]:
    """A batch as of `FramePairs`, of noise, with a head over a torso, and every field of clips."""

    def bytes_of(*shape: int) -> Tensor:
        return torch.randint(256, (batch, *shape), generator=generator).to(torch.uint8)

    classes = torch.zeros(batch, SIZE, SIZE, dtype=torch.uint8)
    classes[:, 6:20, 8:24], classes[:, 20:, 4:28] = 3, 4
    keypoints = torch.full((batch, 2, 68, 2), 0.5) + 0.1 * torch.rand(batch, 2, 68, 2, generator=generator)
    return {
        "source_image": bytes_of(3, SIZE, SIZE),
        "target_image": bytes_of(3, SIZE, SIZE),
        "source_classes": classes,
        "target_classes": classes.clone(),
        "pncc": bytes_of(5, 3, SIZE, SIZE),
        "closing": torch.tensor([0.2, 0.45, 0.7]).repeat(batch, 1),
        "torso": bytes_of(3, SIZE, SIZE),
        "background": bytes_of(3, SIZE, SIZE),
        "keypoints": keypoints,
        "euler": torch.zeros(batch, 2, 3),
        "translation": torch.tensor([0.0, 0.0, -5.0]).repeat(batch, 2, 1),
        "perturbed_number": torch.arange(batch) % 2 + 1,
        "perturbed_identity": torch.randn(batch, 80, generator=generator),
        "perturbed_expression": torch.randn(batch, 64, generator=generator),
        **{name: torch.rand(batch, 2, 1, generator=generator) for name in FIELDS},
    }


def tiny_perceptual_loss() -> PerceptualLoss:
    """The perceptual loss with tiny networks of random weights."""
    sizes = VGGFeaturesConfig(convolutions=(1, 1), widths=(2, 2))
    return PerceptualLoss(PerceptualLossConfig(size=SIZE, extra_scales=1, vgg19=sizes, vggface=sizes))


def changed_parts(before: dict[str, nn.Module], after: dict[str, nn.Module]) -> set[str]:
    """Names of the modules whose parameters or buffers differ."""
    return {
        name
        for name in before
        for a, b in [(before[name].state_dict(), after[name].state_dict())]
        if any(not torch.equal(a[key], b[key]) for key in a)
    }
