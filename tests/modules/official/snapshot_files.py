"""A tiny EG3D generator and discriminator as a network pickle in the released format."""

import pickle  # noqa: S403
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.official.eg3d_snapshot import AXIS_MATRICES
from modules.official.names import to_official
from modules.portrait.discriminator import DualDiscriminator
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig

# fmt: off
CONFIG = EG3DConfig(
    z_dim=6, w_dim=8, plane_resolution=8, base_channels=64, max_channels=16, neural_resolution=8,
    renderer=RendererConfig(plane_channels=4, hidden_channels=8, samples_coarse=6, samples_fine=5,
                            fixed_limits=(2.25, 3.3), missing_rays="official"),
    superresolution=SuperresolutionConfig(resolution=8, feature_channels=4, middle_channels=6, output_channels=5,
                                          w_dim=8, clamp=256.0))
# fmt: on
PLAIN = {
    "decoder": ("training.triplane", "OSGDecoder"),
    "decoder.net": ("torch.nn.modules.container", "Sequential"),
    "decoder.net.1": ("torch.nn.modules.activation", "Softplus"),
    "renderer": ("training.volumetric_rendering.renderer", "ImportanceRenderer"),
    "renderer.ray_marcher": ("training.volumetric_rendering.ray_marcher", "MipRayMarcher2"),
}
NAMES = {"": "TriPlaneGenerator", "superresolution": "SuperresolutionHybrid8XDC"}


class Writer:
    """Writes modules as the released files have them: persistent classes with source code, and plain modules."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        self.source = source
        self.modules = monkeypatch
        self.reconstruct = self.stand_in("torch_utils.persistence", "_reconstruct_persistent_obj", lambda meta: meta)
        self.easy_dict = self.stand_in("dnnlib.util", "EasyDict", type("EasyDict", (dict,), {}))
        self.plain = {path: self.stand_in(*name, type(name[1], (), {})) for path, name in PLAIN.items()}

    def stand_in(self, module: str, name: str, value: Any) -> Any:
        """A global that pickle can name, as long as the test runs."""
        value.__module__, value.__qualname__, value.__name__ = module, name, name
        parts = module.split(".")
        for parent in (".".join(parts[: count + 1]) for count in range(len(parts))):
            if parent not in sys.modules:
                self.modules.setitem(sys.modules, parent, ModuleType(parent))
        self.modules.setattr(sys.modules[module], name, value, raising=False)
        return value

    def module(self, path: str, state: dict[str, Any]) -> object:
        if path in self.plain:
            record = self.plain[path]()
            record.__dict__.update(state)
            return record
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "state": state,
            "class_name": NAMES.get(path, "SynthesisLayer"),
        }
        return type("Persistent", (), {"__reduce__": lambda _: (self.reconstruct, (meta,))})()

    def tree(self, tensors: dict[str, Tensor], path: str = "", extra: dict[str, Any] | None = None) -> object:
        """The module at `path`, with its children in the order in which their tensors come.

        A generator has `attributes` as `extra`; the discriminator has nothing.
        """
        start = f"{path}." if path else ""
        inside = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
        own = {key: value for key, value in inside.items() if "." not in key}
        children = list(dict.fromkeys(key.split(".")[0] for key in inside if "." in key))
        if path == "" and extra:
            children.append("renderer")
        buffers = {key: value for key, value in own.items() if not isinstance(value, nn.Parameter)}
        state = {
            "training": False,
            "_forward_hooks": OrderedDict(),
            "_non_persistent_buffers_set": {"scratch"},
            "_parameters": OrderedDict((key, own[key]) for key in own if key not in buffers) | {"unused": None},
            "_buffers": {**buffers, "scratch": torch.ones(2)},
            "gain": np.float64(0.5),
            "_modules": OrderedDict((name, self.tree(tensors, start + name)) for name in children),
        }
        if path == "renderer":
            state["plane_axes"] = torch.tensor(AXIS_MATRICES, dtype=torch.float32)
        return self.module(path, state | (extra or {}))


def official_state(model: EG3DGenerator) -> dict[str, Tensor]:
    """Parameters and buffers of our generator under the released names, with the FIR kernels."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ordered = {key.removeprefix("renderer."): state[key] for key in model.state_dict()}
    for key in [key for key in ordered if key.endswith("noise_const")]:
        ordered[key.replace("noise_const", "resample_filter")] = torch.ones(4, 4)
    return ordered


def attributes(writer: Writer) -> dict[str, Any]:
    rendering = writer.easy_dict(
        depth_resolution=6,
        depth_resolution_importance=5,
        ray_start=2.25,
        ray_end=3.3,
        box_warp=1.0,
        clamp_mode="softplus",
        disparity_space_sampling=False,
        superresolution_noise_mode="none",
    )
    return {
        "_init_args": (),
        "_init_kwargs": writer.easy_dict(channel_base=64, channel_max=16, sr_num_fp16_res=4),
        "rendering_kwargs": rendering,
        "neural_rendering_resolution": 8,
        "z_dim": 6,
        "c_dim": 25,
        "w_dim": 8,
        "img_resolution": 32,
        "_last_planes": None,
    }


def discriminator_state(model: DualDiscriminator) -> dict[str, Tensor]:
    """Parameters of a discriminator under the released names, with the FIR kernels."""
    official = to_official(model.state_dict(), "discriminator", model)
    return {
        name: value if name.endswith("resample_filter") else nn.Parameter(value) for name, value in official.items()
    }


def write(path: Path, generator: object, protocol: int = 4, discriminator: object = None) -> Path:
    content = {"training_set_kwargs": None, "D": discriminator, "G_ema": generator, "augment_pipe": None}
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def write_snapshot(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    generator: EG3DGenerator,
    discriminator: DualDiscriminator | None = None,
) -> Path:
    """The pickle of a generator of `CONFIG` and a discriminator, as it would be released."""
    writer = Writer(monkeypatch, "")
    theirs = None if discriminator is None else writer.tree(discriminator_state(discriminator))
    return write(path, writer.tree(official_state(generator), extra=attributes(writer)), discriminator=theirs)
