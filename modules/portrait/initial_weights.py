"""First weights of the two encoders, from files trained on ImageNet (docs/spec/head.md#3-6 and #4-3).

The networks are built without them; `load_imagenet` is called when a training starts, and only for the parts that
start from nothing. The files are torchvision's ResNet-34 and the MiT of the encoder's scale, in SegFormer's names
(`mit_b0.pth`) or Hugging Face's (the folder `mit-b0`), located by modules/system/assets.py. Nothing is downloaded here.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from modules.layers.segformer import MiTConfig
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.image_to_plane import INPUT_MODES, ImageToPlane
from modules.portrait.motion_adapter import MotionAdapter
from modules.system.assets import find_asset, locate
from modules.system.checkpoint import misfits, read_weights
from modules.system.errors import UserError

InitialWeights = Literal["imagenet", "none"]  # none: random

RESNET = "resnet34-b627a593.pth"
RESNET_LAYOUT = ((64, 128, 256, 512), (3, 4, 6, 3))  # widths and blocks of ResNet-34
SCALES = ("b0", "b1", "b2", "b3", "b4", "b5")  # of MiT
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a folder of the Hugging Face hub
CLASSIFIERS = ("fc.", "head.", "classifier.")  # parts that are left out
WITHOUT = "or start from random weights: initial_weights=none"
GET = f"get it again, {WITHOUT}"

# Hugging Face's names -> SegFormer's. Since version 5 the library has other names in memory than in its files: the
# first of two are those of the files. Stages are counted from 0 there and from 1 here.
_STAGES = (
    (r"encoder\.patch_embeddings\.(\d)", "patch_embed"),
    (r"stages\.(\d)\.patch_embeddings", "patch_embed"),
    (r"encoder\.block\.(\d)", "block"),
    (r"stages\.(\d)\.blocks", "block"),
    (r"encoder\.layer_norm\.(\d)", "norm"),
    (r"stages\.(\d)\.layer_norm", "norm"),
)
LAYERS = {
    "layer_norm_1": "norm1",
    "layernorm_before": "norm1",
    "layer_norm_2": "norm2",
    "layernorm_after": "norm2",
    "attention.self.query": "attn.q",
    "attention.q_proj": "attn.q",
    "attention.self.key": "attn.k",
    "attention.k_proj": "attn.k",
    "attention.self.value": "attn.v",
    "attention.v_proj": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "attention.self.sr": "attn.sr",
    "attention.sequence_reduction.sequence_reduction": "attn.sr",
    "attention.self.layer_norm": "attn.norm",
    "attention.sequence_reduction.layer_norm": "attn.norm",
    "mlp.dense1": "mlp.fc1",
    "mlp.dense2": "mlp.fc2",
    "layer_norm": "norm",  # of a patch embedding
}


def load_imagenet(modules: Mapping[str, nn.Module], started: Collection[str] = ()) -> None:
    """Fill the encoders of the image-to-plane network and of the motion adapter, if they are among `modules`.

    Args:
        modules: parts of the model by name, on the CPU.
        started: names of those that have their weights from elsewhere and stay as they are.
    Raises:
        UserError: a file is missing or is another one, or an encoder has a layout of its own.
    """
    for name, module in modules.items():
        if name in started:
            continue
        if isinstance(module, ImageToPlane):
            load_resnet(module)
        elif isinstance(module, MotionAdapter):
            load_mit(module)


def imagenet_files(config: Real3DPortraitConfig, started: Collection[str] = ()) -> list[tuple[str, ...]]:
    """The files that `load_imagenet` will ask for, each with the names that will do instead."""
    files: list[tuple[str, ...]] = []
    if "image_to_plane" not in started:
        files.append((RESNET,))
    scale = _scale(config.motion_adapter.encoder) if config.motion_adapter else None
    if scale and "motion_adapter" not in started:
        files.append((f"mit-{scale}", f"mit_{scale}.pth"))
    return files


def _scale(config: MiTConfig) -> str | None:
    """The name of an encoder's scale, None if it has another layout."""
    return next((name for name in SCALES if replace(MiTConfig.scale(name), drop_path=config.drop_path) == config), None)


def load_resnet(network: ImageToPlane) -> None:
    """ResNet-34 for the low-resolution encoder; errors as in `load_imagenet`."""
    config = network.config
    layout = (config.encoder_widths, config.encoder_blocks)
    if layout != RESNET_LAYOUT:
        raise UserError(
            f"model.image_to_plane: encoder_widths {list(layout[0])} and encoder_blocks {list(layout[1])} "
            f"are not those of ResNet-34; use them, {WITHOUT}"
        )
    path = _find(RESNET)
    state = read_weights(path, GET)
    first = state.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 3:
        state["conv1.weight"] = spread_channels(first, INPUT_MODES[config.input_mode])
    _fill(network.low_reso_encoder.encoder, state, path)


def load_mit(network: MotionAdapter) -> None:
    """MiT of its scale for the encoder; errors as in `load_imagenet`."""
    config = network.config.encoder
    scale = _scale(config)
    if scale is None:
        raise UserError(
            f"model.motion_adapter.encoder: widths {list(config.widths)} and depths {list(config.depths)} "
            f"are not one of the scales {', '.join(SCALES)}; use one, {WITHOUT}"
        )
    path = locate(f"mit_{scale}.pth") or _find(f"mit-{scale}")
    if path.is_dir():
        path = next((path / name for name in HUB_WEIGHTS if (path / name).is_file()), path / HUB_WEIGHTS[0])
    _fill(network.mix_vit, segformer_names(read_weights(path, GET)), path)


def spread_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution for RGB images -> one for n channels, of the same mean response.

    Args:
        weight: [O, 3, k, k], for RGB.
        channels: n.
    Returns:
        [O, n, k, k]: channel i is channel i mod 3 times 3/n.
    """
    return weight[:, torch.arange(channels) % 3] * (3 / channels)


def segformer_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a MiT in Hugging Face's names -> SegFormer's, keys and values of attention in one; those stay."""
    renamed = {_segformer_name(key): value for key, value in state.items()}
    for name in [key for key in renamed if ".attn.k." in key]:
        other = name.replace(".attn.k.", ".attn.v.")
        if other in renamed:
            renamed[name.replace(".attn.k.", ".attn.kv.")] = torch.cat([renamed.pop(name), renamed.pop(other)])
    return renamed


def _segformer_name(key: str) -> str:
    key = key.removeprefix("segformer.")
    for pattern, name in _STAGES:
        if match := re.match(pattern, key):
            key = f"{name}{int(match[1]) + 1}{key[match.end() :]}"
    for theirs, ours in LAYERS.items():
        key = key.replace(f".{theirs}.", f".{ours}.")
    return key


def _find(name: str) -> Path:
    try:
        return find_asset(name)
    except UserError as error:
        raise UserError(f"{error}; {WITHOUT}") from error


def _fill(encoder: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all of `state` but the classifier; counters of batch norm, which old files lack, may be missing."""
    expected = encoder.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    problems = misfits(counters | given, expected)
    if problems:
        raise UserError(f"{path} does not fit the encoder: {problems}; get the right file, {WITHOUT}")
    encoder.load_state_dict(counters | given)
