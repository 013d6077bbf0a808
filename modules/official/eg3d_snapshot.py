"""Reads a released EG3D network pickle (`.pkl`) and executes nothing that the file says.

Such a file holds, besides the weights, the source code of its classes, which the original loader runs. Here a pickle
reader knows a short list of names, each of which builds an inert record; every other name is refused. The layout of
the files is that of StyleGAN2/3 and EG3D (persistent classes, legacy tensor storages).
See docs/spec/sr_torso_eg3d.md#8.
"""

import io
import pickle  # noqa: S403  (only ever read through the restricted reader below)
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.official.names import load_official
from modules.rendering.planes import PLANE_AXES
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from modules.system.errors import UserError

LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
MAX_NESTING = 32
# fmt: off
STORAGE_TYPES = {"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
                 "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
                 "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
                 "BoolStorage": torch.bool}
# fmt: on
PLAIN_MODULES = {
    ("training.volumetric_rendering.renderer", "ImportanceRenderer"),
    ("training.volumetric_rendering.ray_marcher", "MipRayMarcher2"),
    ("training.volumetric_rendering.ray_sampler", "RaySampler"),
    ("training.triplane", "OSGDecoder"),
    ("torch.nn.modules.container", "Sequential"),
    ("torch.nn.modules.activation", "Softplus"),
}
# Point times the inverse of each matrix, first two kept: planes hold (x, y), (x, z), (z, x).
AXIS_MATRICES = [[[int(column == axis) for column in range(3)] for axis in axes] for axes in PLANE_AXES]
SUPERRESOLUTION_SCALES = {
    "SuperresolutionHybrid8XDC": 4,
    "SuperresolutionHybrid8X": 4,
    "SuperresolutionHybrid4X": 2,
    "SuperresolutionHybrid2X": 2,
}


class SnapshotError(ValueError):
    """The bytes are not a snapshot this reader accepts."""


# ----------------------------------------------------------------------------------------------- inert records


class Sealed:
    """Base of what a file may build; a file cannot set attributes on it."""

    def __setstate__(self, state: object) -> None:
        raise SnapshotError(f"it sets attributes on a {type(self).__name__}")


class Record(Sealed):
    """A module of the file: the name of its class and its attributes. It has no behaviour."""

    class_name: str
    state: dict[str, Any]

    def __new__(cls) -> "Record":
        record = super().__new__(cls)
        record.class_name, record.state = cls.__name__, {}
        return record

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise SnapshotError(f"{self.class_name} has a state that is no dictionary")
        self.state = state


class PlainDict(dict):
    """Stands for OrderedDict and EasyDict."""

    def __setstate__(self, state: object) -> None:
        if state:
            raise SnapshotError("a dictionary with attributes")


class NumberType(Sealed):
    """Stands for a NumPy dtype: fixed-size numbers only."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1", code):
            raise SnapshotError(f"NumPy type {code!r} is not a plain number")
        self.code, self.order = code, "="

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise SnapshotError("NumPy type with an unknown byte order")
        self.order = state[1]


@dataclass(frozen=True)
class Storage(Sealed):
    """Elements of one or more tensors."""

    elements: Tensor


@dataclass(frozen=True)
class Array(Sealed):
    """A tensor of the file (kept inside a record, because PyTorch's own class obeys a file that sets its state)."""

    tensor: Tensor


def _fresh(base: type, name: str) -> type:
    """A class of its own for one reading, so that a file cannot change one that lives longer."""
    return type(name, (base,), {})


def _persistent_object(meta: object, *rest: object) -> Record:
    if rest or not isinstance(meta, dict) or meta.get("type") != "class" or meta.get("version") != 6:
        raise SnapshotError("a persistent object that is not a class of version 6")
    if not isinstance(meta.get("class_name"), str):
        raise SnapshotError("a persistent object without a class name")
    record = Record()
    record.class_name = meta["class_name"]
    record.__setstate__(meta.get("state"))
    return record


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Array:
    """A strided view of a storage, copied; every element must lie inside."""
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise SnapshotError("a tensor that is not built from a storage, a size and strides")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise SnapshotError(f"a tensor of impossible size {size} and strides {stride}")
    count, last = 1, offset
    for length, step in zip(size, stride):
        count *= length
        last += (length - 1) * step
    available = storage.elements.numel()
    if count and (count > available or last >= available):
        raise SnapshotError(f"a tensor of size {size} does not fit its storage of {available} elements")
    return Array(torch.as_strided(storage.elements, size, stride, offset).clone())


def _parameter(array: object, *_: object) -> Array:
    if not isinstance(array, Array):
        raise SnapshotError("a parameter that is not a tensor")
    return array


def _number(dtype: object, data: object) -> int | float | bool:
    if not isinstance(dtype, NumberType) or not isinstance(data, bytes):
        raise SnapshotError("a NumPy number that is not made of a type and bytes")
    plain = np.dtype(dtype.order + dtype.code)
    if len(data) != plain.itemsize:
        raise SnapshotError(f"{len(data)} bytes for a NumPy number of {plain.itemsize}")
    return np.frombuffer(data, plain)[0].item()


def _dictionary(*arguments: object) -> PlainDict:
    return PlainDict(*arguments)


def _new_instance(kind: object, base: object = None, state: object = None) -> object:
    if not isinstance(kind, type) or not issubclass(kind, (Record, PlainDict)) or state is not None:
        raise SnapshotError("an old-style object that is no module")
    return kind()


# ---------------------------------------------------------------------------------------------- pickle readers


class _Reader(pickle.Unpickler):
    """A pickle reader for which only the given names exist."""

    def __init__(self, file: io.BytesIO, names: dict[tuple[str, str], Callable[..., Any] | str]) -> None:
        super().__init__(file)
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise SnapshotError(f"it asks for {module}.{name}, which is not part of an EG3D network")
        return self.names[module, name]


class _StorageReader(_Reader):
    """The pickles inside a legacy tensor container; a storage is announced by a tuple."""

    def persistent_load(self, pid: object) -> object:
        return pid


def _read_storage(data: object) -> Storage:
    """Parses PyTorch's legacy (non-zip) container, little-endian, with a single storage."""
    if not isinstance(data, bytes):
        raise SnapshotError("a storage that is not made of bytes")
    file = io.BytesIO(data)
    names = {("torch", name): name for name in STORAGE_TYPES}
    magic, version, system, announced, keys = (_StorageReader(file, names).load() for _ in range(5))
    if magic != LEGACY_MAGIC or version != LEGACY_VERSION or not system.get("little_endian", False):
        raise SnapshotError("a storage in an unknown container")
    if not isinstance(announced, tuple) or len(announced) < 5 or announced[0] != "storage":
        raise SnapshotError("a container that announces no storage")
    kind, key, count = announced[1], announced[2], announced[4]
    if kind not in STORAGE_TYPES or keys != [key] or any(extra is not None for extra in announced[5:]):
        raise SnapshotError("a container with an unknown kind of storage")
    dtype, rest = STORAGE_TYPES[kind], data[file.tell() :]
    size = dtype.itemsize
    if len(rest) != 8 + count * size or int.from_bytes(rest[:8], "little") != count:
        raise SnapshotError(f"a storage of {count} elements that holds {len(rest) - 8} bytes")
    if count == 0:
        return Storage(torch.empty(0, dtype=dtype))
    return Storage(torch.frombuffer(bytearray(rest[8:]), dtype=dtype))


def _known_names() -> dict[tuple[str, str], Callable[..., Any] | str]:
    """Everything an EG3D file may ask for, each as an inert stand-in."""
    names: dict[tuple[str, str], Callable[..., Any] | str] = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch.storage", "_load_from_bytes"): _read_storage,
        ("collections", "OrderedDict"): _dictionary,
        ("dnnlib.util", "EasyDict"): _fresh(PlainDict, "EasyDict"),
        ("numpy", "dtype"): _fresh(NumberType, "dtype"),
        ("numpy.core.multiarray", "scalar"): _number,
        ("numpy._core.multiarray", "scalar"): _number,
        ("builtins", "set"): lambda items=(): set(items),
        ("copyreg", "_reconstructor"): _new_instance,
        ("builtins", "object"): _fresh(Record, "object"),
    }
    # The functions are wrapped so that a file which sets attributes on one reaches a throw-away object.
    names = {key: (value if isinstance(value, type) else _throw_away(value)) for key, value in names.items()}
    return names | {key: _fresh(Record, key[1]) for key in PLAIN_MODULES}


def _throw_away(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments)


def read_pickle(data: bytes) -> Any:
    """The records of an EG3D pickle; raises SnapshotError for anything else."""
    try:
        return _Reader(io.BytesIO(data), _known_names()).load()
    except SnapshotError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        MemoryError,
        OverflowError,
        RecursionError,
    ) as error:
        raise SnapshotError(f"it is damaged or no network pickle ({error})") from error


# ------------------------------------------------------------------------------------------------ interpretation


def state_dict(record: Record, depth: int = 0) -> dict[str, Tensor]:
    """Tensors of a module by name: parameters, then persistent buffers, then children, as PyTorch orders them."""
    if depth > MAX_NESTING:
        raise SnapshotError(f"modules nested more than {MAX_NESTING} deep")
    if not isinstance(record, Record):
        raise SnapshotError("a child that is no module")
    for name, value in record.state.items():
        if isinstance(name, str) and name.endswith("_hooks") and value:
            raise SnapshotError(f"{record.class_name} has functions attached ({name})")
    skipped = record.state.get("_non_persistent_buffers_set", ())
    tensors: dict[str, Any] = dict(record.state.get("_parameters", {}))
    tensors.update({name: value for name, value in record.state.get("_buffers", {}).items() if name not in skipped})
    tensors = {name: value for name, value in tensors.items() if value is not None}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Array):
            raise SnapshotError(f"{name!r} of {record.class_name} is no tensor")
    tensors = {name: value.tensor for name, value in tensors.items()}
    for name, child in record.state.get("_modules", {}).items():
        if child is not None:
            tensors.update({f"{name}.{key}": value for key, value in state_dict(child, depth + 1).items()})
    return tensors


def generator_config(record: Record, tensors: dict[str, Tensor]) -> EG3DConfig:
    """Config of a pickled generator: switches from attributes, sizes from tensors (widths from arguments)."""
    given, rendering, state = record.state["_init_kwargs"], record.state["rendering_kwargs"], record.state
    _check_supported(state, rendering)
    limits = (rendering["ray_start"], rendering["ray_end"])
    middle, channels = tensors["superresolution.block0.conv0.weight"].shape[:2]
    scale = SUPERRESOLUTION_SCALES[state["_modules"]["superresolution"].class_name]
    renderer = RendererConfig(
        plane_channels=channels,
        hidden_channels=tensors["decoder.net.0.weight"].shape[0],
        samples_coarse=rendering["depth_resolution"],
        samples_fine=rendering["depth_resolution_importance"],
        box_size=rendering["box_warp"],
        missing_rays="official",
        white_background=rendering.get("white_back", False),
        fixed_limits=None if limits == ("auto", "auto") else limits,
    )
    superresolution = SuperresolutionConfig(
        resolution=tensors["superresolution.block1.conv1.noise_const"].shape[0] // scale,
        feature_channels=channels,
        middle_channels=middle,
        output_channels=tensors["superresolution.block1.conv0.weight"].shape[0],
        scale=scale,
        clamp=256.0 if given.get("sr_num_fp16_res", 0) else None,
        w_dim=state["w_dim"],
    )
    return EG3DConfig(
        z_dim=state["z_dim"],
        w_dim=state["w_dim"],
        mapping_layers=sum(re.fullmatch(r"backbone\.mapping\.fc\d+\.weight", name) is not None for name in tensors),
        camera_scale=0.0 if rendering.get("c_gen_conditioning_zero") else rendering.get("c_scale", 1.0),
        plane_resolution=max(
            int(match[1]) for name in tensors if (match := re.match(r"backbone\.synthesis\.b(\d+)\.", name))
        ),
        base_channels=given.get("channel_base", 32768),
        max_channels=given.get("channel_max", 512),
        backbone_clamp=given.get("conv_clamp") if given.get("num_fp16_res", 0) else None,
        renderer=renderer,
        superresolution=superresolution,
        superresolution_noise=rendering.get("superresolution_noise_mode", "none"),
        neural_resolution=state["neural_rendering_resolution"],
    )


def _check_supported(state: dict[str, Any], rendering: dict[str, Any]) -> None:
    """Refuses generators this package would render differently."""
    if state["c_dim"] != 25:
        raise SnapshotError(f"it is conditioned on {state['c_dim']} numbers, not on the 25 of a camera")
    kind = state["_modules"]["superresolution"].class_name
    if kind not in SUPERRESOLUTION_SCALES:
        raise SnapshotError(f"its super-resolution {kind} is none of {', '.join(SUPERRESOLUTION_SCALES)}")
    if rendering.get("disparity_space_sampling") or rendering.get("clamp_mode", "softplus") != "softplus":
        raise SnapshotError("it samples disparities or has a density that is no softplus")
    axes = state["_modules"]["renderer"].state.get("plane_axes")
    if not isinstance(axes, Array) or axes.tensor.tolist() != AXIS_MATRICES:
        raise SnapshotError("its planes have other axes than (x, y), (x, z), (z, x)")


@dataclass(frozen=True)
class Snapshot:
    """A generator as it was stored, and the discriminator it was trained against.

    Attributes:
        config: of the generator.
        state: tensors of the generator by official names, in official order.
        discriminator: the same of the discriminator; None if the file has none.
    """

    config: EG3DConfig
    state: dict[str, Tensor]
    discriminator: dict[str, Tensor] | None = None

    def build(self) -> EG3DGenerator:
        """The generator with its weights, frozen and in eval mode; UserError if they do not fit."""
        return load_official(EG3DGenerator(self.config), self.state, "eg3d").requires_grad_(False)


def read_snapshot(path: Path) -> Snapshot:
    """The averaged generator (`G_ema`) and the discriminator (`D`) of a network pickle.

    Raises:
        UserError: the file is anything else.
    """
    try:
        content = read_pickle(path.read_bytes())
        if not isinstance(content, dict) or not isinstance(content.get("G_ema"), Record):
            raise SnapshotError("it has no generator G_ema")
        record = content["G_ema"]
        tensors = state_dict(record)
        discriminator = None if content.get("D") is None else state_dict(content["D"])
        return Snapshot(generator_config(record, tensors), tensors, discriminator)
    except SnapshotError as error:
        raise UserError(f"cannot read {path.name}: {error}; use a network pickle released with EG3D") from error
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot read {path.name}: its networks lack or misuse {error}; use a network pickle released with EG3D"
        ) from error
