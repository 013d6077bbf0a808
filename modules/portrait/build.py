"""The model from its config, part by part, and from a checkpoint."""

from pathlib import Path

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.decoder import HeadDecoder
from modules.portrait.demo.head_prior import HeadPriorConfig
from modules.portrait.demo.portrait import HeadPriorPortrait
from modules.portrait.demo.torso import PhotoTorsoModel
from modules.portrait.htbsr.fusion import HTBSR, HTBSRConfig
from modules.portrait.htbsr.torso import TorsoModel
from modules.portrait.image_to_plane import ImageToPlane
from modules.portrait.motion_adapter import MotionAdapter
from modules.portrait.old_configs import update_model_config
from modules.portrait.real3d_portrait import Real3DPortrait
from modules.portrait.tri_grid import TriGridRefiner
from modules.rendering.renderer import VolumeRenderer
from modules.system.checkpoint import (
    build_network,
    checkpoint_step,
    list_checkpoints,
    load_module,
    read_model_config,
)
from modules.system.errors import UserError


def build_portrait(config: Real3DPortraitConfig) -> Real3DPortrait:
    """The model with random first weights, drawn from PyTorch's generator."""
    image_to_plane = ImageToPlane(config.image_to_plane)
    tri_grid = None if config.tri_grid is None else TriGridRefiner(config.tri_grid)
    motion_adapter = None if config.motion_adapter is None else MotionAdapter(config.motion_adapter)
    if config.plane_fusion == "mul" and motion_adapter is not None:
        motion_adapter.init_for_product()  # start near P_cano alone
    renderer = VolumeRenderer(config.renderer)
    decoder = HeadDecoder(config.decoder) if config.htbsr is None else build_htbsr(config.htbsr, config.head_prior)
    parts = (image_to_plane, motion_adapter, renderer, decoder, config.neural_resolution, tri_grid, config.plane_fusion)
    if config.head_prior is None:
        return Real3DPortrait(*parts)
    return HeadPriorPortrait(*parts, prior=config.head_prior)


def build_htbsr(config: HTBSRConfig, head_prior: HeadPriorConfig | None = None) -> HTBSR:
    """The decoder of stage 3."""
    photo_torso = head_prior is not None and head_prior.torso_photo
    return HTBSR(config, PhotoTorsoModel(config.torso) if photo_torso else TorsoModel(config.torso))


def read_portrait_config(folder: Path) -> Real3DPortraitConfig:
    """The model's settings in the config.yaml of a checkpoint, those of earlier versions included.

    Raises:
        UserError: no config.yaml, none of a portrait model, or a wrong value; the message names the file.
    """
    return read_model_config(folder, Real3DPortraitConfig, update_model_config)


def load_portrait(folder: Path, config: Real3DPortraitConfig) -> Real3DPortrait:
    """The model of `config` with the weights in `folder`, a file for each part.

    Raises:
        UserError: a file or a tensor is missing, damaged or of another size.
    """
    model = build_network(folder, lambda: build_portrait(config))
    for name, part in model.named_children():
        load_module(folder, name, part)
    return model


def find_portrait(checkpoint: Path) -> Path:
    """The folder of a checkpoint that holds the portrait model.

    Raises:
        UserError: there is none; for the original's files it says that they must be converted.
    """
    folder = checkpoint / "portrait"
    if folder.is_dir():
        return folder
    if checkpoint.suffix == ".ckpt" or any(checkpoint.glob("*.ckpt")):
        raise UserError(
            f"{checkpoint} is a checkpoint of the original; convert it: "
            f"python -m scripts.convert_checkpoint {checkpoint} checkpoints/official"
        )
    if list_checkpoints(checkpoint) or checkpoint_step(checkpoint) >= 0 or checkpoint.name == "best":
        raise UserError(
            f"{checkpoint} is of a training run; make a checkpoint of it: python -m scripts.export_checkpoint "
            f"--portrait {checkpoint} --audio2motion checkpoints/demo/audio2motion --output my_checkpoint (a run of "
            "speech is for --audio2motion), then use --checkpoint my_checkpoint"
        )
    raise UserError(f"no checkpoint in {checkpoint}; it must hold a folder portrait (and audio2motion)")
