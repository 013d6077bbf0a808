"""A tiny whole model for the tests of what is built around it."""

from modules.layers.segformer import MiTConfig
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig
from modules.portrait.image_to_plane import ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.tri_grid import TriGridRefinerConfig
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig


def tiny_portrait_config(
    stage: int = 3, depth: int = 1, picture_size: int = 64, **changes: object
) -> Real3DPortraitConfig:
    """Stage 1, 2 or 3 with tri-planes (depth 1) or tri-grids; photo and PNCCs of 32 pixels, n = picture_size / 4."""
    shared = {"plane_channels": 4, "plane_depth": depth}
    decoder = SuperresolutionConfig(
        resolution=picture_size // 4, feature_channels=4, middle_channels=8, output_channels=4, w_dim=8
    )
    torso = TorsoConfig(
        image_size=picture_size // 2,
        depth=2,
        volume_channels=4,
        appearance_channels=2,
        appearance_blocks=1,
        compressed_channels=2,
        motion_channels=(4, 4),
        motion_features=4,
        head_channels=4,
        head_blocks=1,
        generator_channels=8,
        generator_blocks=1,
        occlusion_channels=4,
    )
    parts = {
        "image_to_plane": ImageToPlaneConfig(
            input_size=32,
            encoder_widths=(8, 8, 8, 8),
            encoder_blocks=(1, 1, 1, 1),
            pyramid_channels=4,
            pyramid_dilations=(1, 2),
            vit_width=16,
            vit_blocks=1,
            vit_heads=2,
            vit_channels=4,
            low_channels=4,
            high_first=4,
            high_channels=4,
            high_layers=1,
            predictor_channels=(8, 4),
            predictor_width=16,
            predictor_heads=2,
            **shared,
        ),
        "tri_grid": TriGridRefinerConfig(**shared) if depth > 1 else None,
        "motion_adapter": None
        if stage == 1
        else MotionAdapterConfig(
            input_size=32,
            fuse_channels=8,
            encoder=MiTConfig(widths=(4, 8, 8, 8), heads=(1, 2, 2, 2), depths=(1, 1, 1, 1)),
            **shared,
        ),
        "renderer": RendererConfig(hidden_channels=8, samples_coarse=6, samples_fine=6, **shared),
        "superresolution": decoder if stage < 3 else None,
        "htbsr": HTBSRConfig(superresolution=decoder, torso=torso, bottleneck=4, fusion_channels=8, alpha_channels=4)
        if stage == 3
        else None,
        "neural_resolution": picture_size // 4,
    }
    return Real3DPortraitConfig(**{**parts, **changes})
