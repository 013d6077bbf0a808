"""Tiny models, clips and batches for the tests of the image stages: 32-pixel pictures, 8-pixel renders."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.layers.segformer import MiTConfig
from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig
from modules.portrait.image_to_plane import ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.real3d_portrait import Real3DPortraitConfig
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig

SIZE, RAW = 32, 8
CHANNELS = 4


def tiny_model(stage: int) -> Real3DPortraitConfig:
    superresolution = SuperresolutionConfig(resolution=RAW, feature_channels=CHANNELS, middle_channels=8,
                                            output_channels=8, w_dim=8, noise=False)
    torso = TorsoConfig(image_size=2 * RAW, depth=2, volume_channels=4, appearance_channels=4, appearance_blocks=1,
                        motion_channels=(4, 8), motion_features=4, head_channels=4, head_blocks=1,
                        generator_channels=8, generator_blocks=1, occlusion_channels=4, outer_kernel=3,
                        field_kernel=3, map_kernel=3, mask_dilation=3)
    htbsr = HTBSRConfig(superresolution=superresolution, torso=torso, bottleneck=4, fusion_channels=8,
                        alpha_channels=4)
    adapter = MotionAdapterConfig(
        input_size=SIZE, plane_channels=CHANNELS, fuse_channels=8,
        encoder=MiTConfig(widths=(8, 8, 8, 8), heads=(1, 1, 1, 1), depths=(1, 1, 1, 1)))
    return Real3DPortraitConfig(
        image_to_plane=ImageToPlaneConfig(
            input_size=SIZE, plane_channels=CHANNELS, encoder_widths=(8, 8, 8, 8), encoder_blocks=(1, 1, 1, 1),
            pyramid_channels=8, pyramid_dilations=(1, 1, 1), vit_width=16, vit_blocks=1, vit_heads=2, vit_channels=8,
            low_channels=8, high_first=8, high_channels=8, high_layers=1, predictor_channels=(8, 8),
            predictor_width=16, predictor_heads=2),
        renderer=RendererConfig(plane_channels=CHANNELS, hidden_channels=8, samples_coarse=4, samples_fine=4),
        motion_adapter=adapter if stage > 1 else None, superresolution=superresolution if stage < 3 else None,
        htbsr=htbsr if stage == 3 else None, neural_resolution=RAW, focal_length=1015 / 224, face_model="procedural")


def write_tiny_clips(folder: Path, clips: int = 3, frames: int = 6) -> None:
    """Clips of noise with a head of class 3 over a torso of class 4, PNCCs included."""
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    classes = np.zeros((frames, SIZE, SIZE), np.uint8)
    classes[:, 6:20, 8:24], classes[:, 20:, 4:28] = 3, 4
    for number in range(clips):
        face = FaceCoefficients.neutral(frames).replace(
            expression=0.1 * torch.rand(frames, 64, generator=generator),
            translation=torch.tensor([[0, 0, -5.0]] * frames))
        write_clip(folder / f"clip_{number}", ClipContent(
            frames=random.integers(0, 255, (frames, SIZE, SIZE, 3), dtype=np.uint8), classes=classes,
            background=np.full((SIZE, SIZE, 3), 90, np.uint8), face=face, face_model="procedural",
            landmarks=np.zeros((frames, 68, 2)), pncc=random.integers(0, 255, (frames + 1, 3, SIZE, SIZE), np.uint8)))


def pair_batch(generator: torch.Generator, batch: int = 2) -> dict[str, Tensor]:
    """What FramePairs gives, of noise."""
    def bytes_of(*shape: int) -> Tensor:
        return torch.randint(256, (batch, *shape), generator=generator).to(torch.uint8)

    classes = torch.zeros(batch, SIZE, SIZE, dtype=torch.uint8)
    classes[:, 6:20, 8:24], classes[:, 20:, 4:28] = 3, 4
    keypoints = torch.full((batch, 2, 68, 2), 0.5) + 0.1 * torch.rand(batch, 2, 68, 2, generator=generator)
    return {"source_image": bytes_of(3, SIZE, SIZE), "target_image": bytes_of(3, SIZE, SIZE),
            "source_classes": classes, "target_classes": classes.clone(), "pncc": bytes_of(5, 3, SIZE, SIZE),
            "closed": bytes_of(3, 3, SIZE, SIZE), "torso": bytes_of(3, SIZE, SIZE),
            "background": bytes_of(3, SIZE, SIZE), "keypoints": keypoints, "euler": torch.zeros(batch, 2, 3),
            "translation": torch.tensor([0.0, 0.0, -5.0]).repeat(batch, 2, 1), "perturbed": bytes_of(2, 3, SIZE, SIZE)}


def changed_parts(before: dict[str, nn.Module], after: dict[str, nn.Module]) -> set[str]:
    """Names of the modules whose parameters differ."""
    return {name for name in before if any(not torch.equal(a, b) for a, b in
                                           zip(before[name].parameters(), after[name].parameters()))}
