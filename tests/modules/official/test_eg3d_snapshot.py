"""Network pickles: a file written in the released format is read exactly, and nothing in a file is executed."""

import os
import pickle  # noqa: S403
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.official.eg3d_snapshot import AXIS_MATRICES, read_snapshot
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from modules.system.errors import UserError

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
        """The module at `path`, with its children in the order in which their tensors come."""
        start = f"{path}." if path else ""
        inside = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
        own = {key: value for key, value in inside.items() if "." not in key}
        children = list(dict.fromkeys(key.split(".")[0] for key in inside if "." in key))
        if path == "":
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


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writer:
    return Writer(monkeypatch, f"import os; os.mkdir({str(tmp_path / 'executed')!r})")


@pytest.fixture
def teacher() -> EG3DGenerator:
    torch.manual_seed(0)
    return EG3DGenerator(CONFIG).eval()


def write(path: Path, generator: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps({"training_set_kwargs": None, "G_ema": generator, "augment_pipe": None}, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_written_generator_comes_back_bit_by_bit(
    writer: Writer, teacher: EG3DGenerator, tmp_path: Path, protocol: int
) -> None:
    state = official_state(teacher)
    path = write(tmp_path / "network.pkl", writer.tree(state, extra=attributes(writer)), protocol)
    snapshot = read_snapshot(path)
    assert snapshot.config == CONFIG
    assert set(snapshot.state) == set(state)
    rebuilt = snapshot.build().state_dict()
    for key, value in teacher.state_dict().items():
        assert torch.equal(rebuilt[key], value), key
    assert not (tmp_path / "executed").exists()


class Attack:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_a_call_of_the_operating_system_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "network.pkl", Attack(os.mkdir, str(tmp_path / "executed")))
    with pytest.raises(UserError, match=re.escape(f"{os.mkdir.__module__}.mkdir")):
        read_snapshot(path)
    assert not (tmp_path / "executed").exists()


def test_code_inside_a_storage_is_refused(tmp_path: Path) -> None:
    inner = pickle.dumps(Attack(os.mkdir, str(tmp_path / "executed")))
    path = write(tmp_path / "network.pkl", Attack(torch.storage._load_from_bytes, inner))
    with pytest.raises(UserError, match="mkdir"):
        read_snapshot(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((9,), (1,), 0), ((4,), (3,), 0), ((8,), (1,), 1), ((9,), (0,), 0), ((2,), (-1,), 3)]
)
def test_a_tensor_that_leaves_its_storage_is_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    storage = torch.zeros(8).__reduce_ex__(2)[1][0]
    fake = Attack(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    with pytest.raises(UserError, match="tensor of"):
        read_snapshot(write(tmp_path / "network.pkl", fake))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_forward_hooks": {0: "call me"}}, "functions attached"),
        ({"c_dim": 0}, "25 of a camera"),
        ({"neural_rendering_resolution": None}, "cannot read"),
        ({"_parameters": {"weight": "text"}}, "no tensor"),
    ],
)
def test_unusual_generators_are_refused_with_a_reason(
    writer: Writer, teacher: EG3DGenerator, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    generator = writer.tree(official_state(teacher), extra=attributes(writer) | change)
    with pytest.raises(UserError, match=message):
        read_snapshot(write(tmp_path / "network.pkl", generator)).build()


def test_modules_that_contain_themselves_are_refused(writer: Writer, teacher: EG3DGenerator, tmp_path: Path) -> None:
    endless = writer.module("renderer", {"_modules": {}})
    endless._modules["again"] = endless
    generator = writer.module("", attributes(writer) | {"_modules": {"renderer": endless}})
    with pytest.raises(UserError, match="nested"):
        read_snapshot(write(tmp_path / "network.pkl", generator))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04K\x01.", b"\x80\x04]."])
def test_other_files_are_named_in_the_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pkl"):
        read_snapshot(path)
