"""The original's checkpoints and ours: which tensor has which name.

Inside a module our names are the original's; only the prefixes of a network's parts differ (`PREFIXES`). The blur
kernels that the original stores in every layer are constants: they are dropped on the way here and made again on the
way back, as are two training scalars. The command is `scripts/convert_checkpoint.py`.
See docs/spec/head.md#9 and docs/spec/training.md#5.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from modules.layers.stylegan import FIR_TAPS
from modules.official.configs import expected_shapes
from modules.system.errors import UserError

# Official prefix, our prefix; the first that fits counts.
PREFIXES: dict[str, tuple[tuple[str, str], ...]] = {
    "image_to_plane": (  # stage 1
        ("img2plane_backbone.", "image_to_plane."),
        ("plane2grid_module.", "tri_grid."),
        ("decoder.", "renderer.decoder."),
        ("superresolution.", "superresolution."),
    ),
    "head": (  # stage 2
        ("cano_img2plane_backbone.", "image_to_plane."),
        ("secc_img2plane_backbone.", "motion_adapter."),
        ("plane2grid_module.", "tri_grid."),
        ("decoder.", "renderer.decoder."),
        ("superresolution.", "superresolution."),
    ),
    "portrait": (  # stage 3, the released model
        ("cano_img2plane_backbone.", "image_to_plane."),
        ("secc_img2plane_backbone.", "motion_adapter."),
        ("plane2grid_module.", "tri_grid."),
        ("decoder.", "renderer.decoder."),
        ("superresolution.", "htbsr."),
    ),
    "audio2motion": (("", ""),),
    "syncnet": (("", ""),),
    "eg3d": (
        ("decoder.", "renderer.decoder."),
        ("", ""),
    ),
    "discriminator": (("", ""),),
    "part": (("", ""),),  # any single module; give it to check against
}

# The network of a file, recognised by a key that only it has; the first that fits counts.
SIGNATURES = (
    ("portrait", "an HTB-SR (stage 3) checkpoint", r"superresolution\.torso_model\."),
    ("head", "a motion-adapter (stage 2) checkpoint", r"secc_img2plane_backbone\."),
    ("image_to_plane", "an image-to-plane (stage 1) checkpoint", r"img2plane_backbone\."),
    ("audio2motion", "an audio-to-motion checkpoint", r"vae\.encoder\.wn\."),
    ("syncnet", "a lip-sync expert (SyncNet) checkpoint", r"hubert_encoder\."),
    ("eg3d", "an EG3D generator", r"backbone\.synthesis\."),
    ("discriminator", "a dual discriminator", r"b\d+\.fromrgb\."),
)

# The newer spelling of weight norm, which some files have.
WEIGHT_NORM = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}

# Official keys without a counterpart here: constants and the weights of two training losses (0.001 at their start).
DROPPED = re.compile(r"(.*\.)?resample_filter$|lambda_pertube_(blink_)?secc$|dataset_label_std$")
LOSS_SCALARS = {"lambda_pertube_blink_secc": 0.001, "lambda_pertube_secc": 0.001}

# Layers that own a blur kernel in the original, by a key they have: (pattern, names of the kernels' owners).
FILTER_OWNERS = (
    (r"(.*)\.(conv[01])\.affine\.weight$", (r"\1", r"\1.\2")),  # synthesis blocks
    (r"(.*img2plane_backbone)\.prenet\.weight$", (r"\1.prenet",)),
)
DISCRIMINATOR_FILTER_OWNERS = (
    (r"(b\d+)\.(fromrgb|conv0|conv1|skip|conv)\.weight$", (r"\1.\2",)),
    (r"(b\d+)\.conv0\.weight$", (r"\1",)),
    (r"b4\.fc\.weight$", ("",)),
)


def official_state(checkpoint: Mapping, child: str = "model") -> dict[str, Tensor]:
    """The state of one part of an original checkpoint file.

    Args:
        checkpoint: what the file holds: {"state_dict": {child: {...}}}, {"state_dict": {"child.key": ...}}, or the
            bare state itself.
        child: "model", "disc" or "syncnet".
    Raises:
        UserError: the file has no such part.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping) or not state or not all(isinstance(key, str) for key in state):
        raise UserError("the checkpoint holds no tensors with names; its state_dict must be {name: tensor}")
    if isinstance(state.get(child), Mapping):
        state = state[child]
    elif any(key.startswith(f"{child}.") for key in state):
        state = {key.removeprefix(f"{child}."): value for key, value in state.items() if key.startswith(f"{child}.")}
    elif not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"the checkpoint has no part {child!r}; it holds {', '.join(map(str, list(state)[:8]))}")
    return {key.replace("_orig_mod.", ""): value for key, value in state.items()}


def identify(state: Mapping[str, Tensor]) -> str | None:
    """The network that an official state belongs to, a key of `PREFIXES`; None if none is recognised."""
    return next((name for name, _, pattern in SIGNATURES if any(re.match(pattern, key) for key in state)), None)


def to_ours(state: Mapping[str, Tensor], network: str, module: nn.Module | None = None) -> dict[str, Tensor]:
    """Official names -> ours, ready for `load_state_dict(strict=True)`.

    Args:
        state: all tensors, by official names.
        network: a key of `PREFIXES`.
        module: the module it is for; None: one of the released sizes, or what `portrait_config` reads.
    Raises:
        UserError: another network's state, or unknown, missing or misshapen tensors, listed by name.
    """
    prefixes = _prefixes(network)
    recognised = identify(state)
    if network != "part" and recognised not in (None, network):
        what = next(text for name, text, _ in SIGNATURES if name == recognised)
        raise UserError(f"this looks like {what}; convert it as {recognised}, not as {network}")
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        if DROPPED.match(key):
            continue
        ours = _rename(_plain_weight_norm(key), prefixes)
        if ours is None:
            unknown.append(key)
        else:
            renamed[ours] = value
    back = tuple((ours, official) for official, ours in prefixes)
    _check(renamed, expected_shapes(network, module, state), unknown, lambda key: _rename(key, back) or key)
    return renamed


def to_official(state: Mapping[str, Tensor], network: str, module: nn.Module | None = None) -> dict[str, Tensor]:
    """Our names -> the original's, with its constant buffers; arguments and errors as in `to_ours`."""
    prefixes = _prefixes(network)
    back = tuple((ours, official) for official, ours in prefixes)
    renamed = {_rename(key, back) or key: value for key, value in state.items()}
    _check(state, expected_shapes(network, module, renamed), [], lambda key: key)
    if network in ("head", "portrait"):
        renamed |= {key: torch.full((1,), value) for key, value in LOSS_SCALARS.items()}
    for owner in _filter_owners(renamed, network):
        renamed[f"{owner}.resample_filter".lstrip(".")] = _blur_kernel()
    return renamed


def load_official(module: nn.Module, state: Mapping[str, Tensor], network: str = "part") -> nn.Module:
    """Load an official state into `module` (strictly) and return it in eval mode; errors as in `to_ours`."""
    module.load_state_dict(to_ours(state, network, module), strict=True)
    return module.eval()


def _prefixes(network: str) -> tuple[tuple[str, str], ...]:
    if network not in PREFIXES:
        raise UserError(f"unknown network {network!r}; use one of {', '.join(PREFIXES)}")
    return PREFIXES[network]


def _rename(key: str, prefixes: tuple[tuple[str, str], ...]) -> str | None:
    return next((new + key[len(old) :] for old, new in prefixes if key.startswith(old)), None)


def _plain_weight_norm(key: str) -> str:
    for new, old in WEIGHT_NORM.items():
        key = key.replace(new, old)
    return key


def _check(
    state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], unknown: list[str], name: Callable[[str], str]
) -> None:
    """Refuse what does not fit; `name` gives the spelling of a key in the user's file."""
    unknown = unknown + [name(key) for key in state if key not in expected]
    missing = [name(key) for key in expected if key not in state]
    misshapen = [
        f"{name(key)} {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    problems = [
        f"{len(keys)} {kind}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for kind, keys in (("unknown", unknown), ("missing", missing), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise UserError(f"the tensors do not fit the network: {'; '.join(problems)}; check the file, or its config")


def _filter_owners(state: Mapping[str, Tensor], network: str) -> list[str]:
    """Names of the official layers that store a blur kernel."""
    rules = DISCRIMINATOR_FILTER_OWNERS if network == "discriminator" else FILTER_OWNERS
    owners = []
    for key in state:
        for pattern, names in rules:
            match = re.match(pattern, key)
            owners += [match.expand(name) for name in names] if match else []
    last = state.get("superresolution.block1.conv1.weight")
    if network == "eg3d" and last is not None and last.shape[0] == 64:
        owners.append("superresolution")  # EG3D's other super-resolutions own one more
    return sorted(set(owners))


def _blur_kernel() -> Tensor:
    taps = torch.tensor(FIR_TAPS)
    return torch.outer(taps, taps) / taps.sum() ** 2
