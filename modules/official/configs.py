"""How the network of an original checkpoint is built, read from the names and shapes of its tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.layers.segformer import MiTConfig
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminator, DualDiscriminatorConfig
from modules.portrait.driving import DrivingConfig
from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig
from modules.portrait.image_to_plane import INPUT_MODES, ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.tri_grid import TriGridRefinerConfig

PNCC_INPUTS = {2: ("canonical", "driving"), 3: ("canonical", "source", "driving")}  # by their number
PORTRAITS = {"image_to_plane": 1, "head": 2, "portrait": 3}  # network -> stage of the training


def expected_shapes(network: str, module: nn.Module | None, state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The names (ours) and shapes of all tensors of a complete state.

    Args:
        network: a key of `names.PREFIXES`.
        module: the module it is for; None: one of the released sizes, for a portrait of those that `state` has.
        state: tensors by official names.
    """
    builders: dict[str, Callable[[], nn.Module]] = {
        "audio2motion": lambda: Audio2Motion(Audio2MotionConfig.full()),
        "syncnet": lambda: SyncNet(SyncNetConfig.full()),
        "eg3d": lambda: EG3DGenerator(EG3DConfig.full()),
        "discriminator": lambda: DualDiscriminator(DualDiscriminatorConfig.full()),
    }
    if module is None and network == "part":
        raise ValueError("give the module that the part is for")
    if module is None:
        with torch.device("meta"):
            module = build_portrait(portrait_config(state, network)) if network in PORTRAITS else builders[network]()
    return {key: value.shape for key, value in module.state_dict().items()}


def portrait_config(state: Mapping[str, Tensor], network: str) -> Real3DPortraitConfig:
    """The config of an official portrait model, read from its tensors' names and shapes.

    Widths are the original's; what its configs vary is read: scales, input mode, tri-grid, PNCC pictures, torso
    version and fusion (predicted_alpha has the same tensors as head_weights and is taken for it).

    Args:
        state: tensors by official names.
        network: "image_to_plane", "head" or "portrait".
    """
    stage = PORTRAITS[network]
    first = "img2plane_backbone." if stage == 1 else "cano_img2plane_backbone."
    rows = _size(state, f"{first}triplane_predictor_vit.final_conv.weight", 0, 96)
    depth = max(rows // 96, 1)
    inputs = {channels: mode for mode, channels in INPUT_MODES.items()}
    channels = _size(state, f"{first}high_reso_encoder.first.weight", 1, 5)
    refined = any(key.startswith("plane2grid_module.") for key in state)
    return replace(
        Real3DPortraitConfig.released() if stage == 3 else Real3DPortraitConfig.full(stage),
        image_to_plane=ImageToPlaneConfig(
            input_mode=inputs.get(channels, "rgb"),
            plane_depth=depth,
            vit_blocks=_count(state, rf"{first}low_reso_vit\.block\d+\.norm1\.weight", 5),
            predictor_blocks=_count(state, rf"{first}triplane_predictor_vit\.block\d+\.norm1\.weight", 1),
        ),
        motion_adapter=_adapter_config(state, depth) if stage > 1 else None,
        tri_grid=TriGridRefinerConfig(plane_depth=depth) if refined and depth > 1 else None,
        renderer=replace(Real3DPortraitConfig.released().renderer, plane_depth=depth),
        htbsr=_htbsr_config(state) if stage == 3 else None,
        driving=DrivingConfig.released(),
    )


def _adapter_config(state: Mapping[str, Tensor], depth: int) -> MotionAdapterConfig:
    encoder = "secc_img2plane_backbone.mix_vit"
    depths = tuple(_count(state, rf"{encoder}\.block{stage}\.\d+\.norm1\.weight", 2) for stage in range(1, 5))
    wide = _size(state, f"{encoder}.norm1.weight", 0, 32) == 64
    return MotionAdapterConfig(
        encoder=replace(MiTConfig.scale("b1" if wide else "b0"), depths=depths),
        plane_depth=depth,
        pncc_inputs=PNCC_INPUTS[_size(state, "secc_img2plane_backbone.prenet.weight", 1, 9) // 3],
    )


def _htbsr_config(state: Mapping[str, Tensor]) -> HTBSRConfig:
    torso = "superresolution.torso_model"
    field = f"{torso}.motion_field_estimator"
    channels = _size(state, f"{torso}.appearance_extractor.in_conv.layers.0.weight", 1, 5)
    steered = any(key.startswith(f"{field}.tgt_head_encoder.") for key in state)
    blends = any(key.startswith("superresolution.head_torso_block.") for key in state)
    concat = _size(state, "superresolution.fuse_fg_bg_convs.0.weight", 1, 512) == 768
    return HTBSRConfig(
        torso=TorsoConfig(
            steering="head_guided" if steered else "keypoints_only",
            inputs="rgb" if channels == 3 else "rgb_alpha",
            keypoints=_size(state, f"{field}.mask_conv.weight", 0, 5) - 1,
        ),
        fusion="concat" if concat else "head_weights" if blends else "blend",
    )


def _size(state: Mapping[str, Tensor], key: str, axis: int, default: int) -> int:
    value = state.get(key)
    return default if value is None or value.ndim <= axis else value.shape[axis]


def _count(state: Mapping[str, Tensor], pattern: str, default: int) -> int:
    return sum(re.match(pattern, key) is not None for key in state) or default
