"""Write the networks of a portrait checkpoint as ONNX, for programs without PyTorch.

    python -m scripts.export_onnx checkpoints/demo --output demo_onnx

OUTPUT/photo.onnx is what is done once a photo, OUTPUT/frame.onnx what is done for each frame: one photo, one frame,
float32, fixed sizes, weights inside. docs/onnx.md says what goes in and out. The networks are prepared for inference
(modules/portrait/prepared.py) and rays march in full. Both files are run with ONNX Runtime on another person than the
one that they were traced with; they are kept if the results are those of PyTorch.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from inference.motion import Motion, natural_pose
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.track import make_track
from modules.portrait.build import find_portrait, load_portrait, read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import Driving
from modules.portrait.photo import Photo
from modules.portrait.prepared import prepare
from modules.portrait.real3d_portrait import Real3DPortrait, Source
from modules.procedural.head import procedural_model
from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from modules.system.packages import optional_package

OPSET = 20  # the first whose GridSample reads volumes
ONNX_REQUIREMENTS = "requirements-onnx.txt"
TRACED, CHECKED = 900_007, 900_008  # seeds of procedural people
LARGEST_ERROR = 1e-4  # of a result, relative to its largest value
REFUSED = {
    "official": "limits of rays that miss the head depend on the others",
    "predicted_alpha": "the threshold of opacity is sought in each picture",
    "learned": "key points are found on frames that are there before",
}
FRAME_RESULTS = ("image", "alpha")


@dataclass(frozen=True)
class Part:
    """One ONNX file.

    Attributes:
        data: its bytes.
        inputs, outputs: shapes by name.
        error: of ONNX Runtime against PyTorch, see `largest_error`.
    """

    data: bytes
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    error: float


@dataclass(frozen=True)
class Tools:
    """The optional packages."""

    onnxscript: ModuleType
    onnxruntime: ModuleType

    @staticmethod
    def find() -> "Tools":
        """Raises UserError: one of them, or onnx, which the exporter of PyTorch uses, is not installed."""
        optional = partial(
            optional_package,
            purpose="the export",
            otherwise="use the checkpoint with python -m inference.run",
            requirements=ONNX_REQUIREMENTS,
        )
        optional("onnx")
        return Tools(optional("onnxscript"), optional("onnxruntime"))


class PhotoNetworks(nn.Module):
    """Tensors of a `Photo` -> tensors of its `Source`, both in the order of `named_tensors`."""

    def __init__(self, model: Real3DPortrait, photo: Photo) -> None:
        super().__init__()
        self.model, self.layout = model, photo

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        source = self.model.encode(refilled(self.layout, iter(tensors)))
        return tuple(named_tensors(source, "source").values())


class FrameNetworks(nn.Module):
    """Tensors of a `Source` and a `Driving` -> image [1, 3, S, S] in [-1, 1] and alpha [1, 1, S, S] in [0, 1]."""

    def __init__(self, model: Real3DPortrait, source: Source, driving: Driving) -> None:
        super().__init__()
        self.model, self.layouts = model, (source, driving)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = iter(tensors)
        source, driving = (refilled(layout, given) for layout in self.layouts)
        output = self.model(source, driving)
        return output.image, output.decoded.alpha


def check(folder: Path, config: Real3DPortraitConfig) -> None:
    """Refuse models whose work depends on the values in a picture: a graph has one way for all.

    Raises:
        UserError: naming the key of config.yaml.
    """
    values = {"renderer.missing_rays": config.renderer.missing_rays}
    if config.htbsr is not None:
        values |= {
            "htbsr.fusion": config.htbsr.fusion,
            "htbsr.torso.keypoint_source": config.htbsr.torso.keypoint_source,
        }
    for key, value in values.items():
        if value in REFUSED:
            raise UserError(
                f"{folder} has {key} {value}: {REFUSED[value]}, which ONNX cannot hold; use another checkpoint"
            )


def named_tensors(record: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a record and of the records in it, called by their path: "driving.pncc.source"."""
    if record is None:
        return {}
    if isinstance(record, Tensor):
        return {name: record}
    parts = [named_tensors(getattr(record, field.name), f"{name}.{field.name}") for field in fields(record)]
    return {key: tensor for part in parts for key, tensor in part.items()}


def refilled(record: Any, tensors: Iterator[Tensor]) -> Any:
    """A record of the same make with the next tensors, in the order of `named_tensors`."""
    if record is None:
        return None
    if isinstance(record, Tensor):
        return next(tensors)
    return type(record)(*(refilled(getattr(record, field.name), tensors) for field in fields(record)))


def example(model: Real3DPortrait, config: Real3DPortraitConfig, seed: int) -> tuple[Photo, Driving]:
    """What the model reads of a procedural person and of one frame in which the head is turned and speaks."""
    face_model = procedural_model()
    pipeline = TalkingPortrait(model, config, face_model, None, torch.device("cpu"))
    portrait = Portrait.from_procedural(seed, face_model, pipeline.size)
    generator = torch.Generator().manual_seed(seed)
    euler, translation = natural_pose(1, generator)
    expression = 0.2 * torch.rand(1, 64, generator=generator)
    motion = Motion(expression, euler, translation, torch.zeros(1, 1), face_model.name)
    track = make_track(portrait, motion, face_model, config.driving)
    photo = pipeline.photo(portrait, track)
    driving = pipeline.driving(portrait, track, slice(0, 1), pipeline.still_pncc(portrait, track))
    if config.htbsr is None:
        photo, driving = replace(photo, surroundings=None), replace(driving, keypoints=None)
    return photo, pipeline.readable(driving)


def translations(onnxscript: ModuleType) -> dict[Any, Any]:
    """ONNX for what PyTorch's exporter cannot say, by operator."""
    op = onnxscript.opset20

    def inverse(pose: Any, check_errors: bool = False) -> Any:
        """Of a rigid motion [B, 4, 4]: the only matrices that a frame inverts are poses of cameras."""
        rotation = op.Transpose(op.Slice(pose, [0, 0], [3, 3], [1, 2]), perm=[0, 2, 1])
        shift = op.Neg(op.MatMul(rotation, op.Slice(pose, [0, 3], [3, 4], [1, 2])))
        last = op.Slice(pose, [3], [4], [1])
        return op.Concat(op.Concat(rotation, shift, axis=2), last, axis=1), op.Constant(value_ints=[0])

    def searchsorted(
        limits: Any, values: Any, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
    ) -> Any:
        """Number of limits [..., N] up to each value [..., M], with right=True."""
        if not right:
            raise NotImplementedError("searchsorted from the left")
        reached = op.LessOrEqual(op.Unsqueeze(limits, [-2]), op.Unsqueeze(values, [-1]))  # [..., M, N]
        count = op.ReduceSum(op.Cast(reached, to=onnxscript.INT32.dtype), [-1], keepdims=0)
        return op.Cast(count, to=onnxscript.INT64.dtype)

    return {torch.ops.aten.linalg_inv_ex.default: inverse, torch.ops.aten.searchsorted.Tensor: searchsorted}


def to_onnx(networks: nn.Module, inputs: dict[str, Tensor], outputs: list[str], onnxscript: ModuleType) -> bytes:
    """The file of a module of plain tensors, traced with `inputs`."""
    program = torch.onnx.export(
        networks.eval(),
        tuple(inputs.values()),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=outputs,
        custom_translation_table=translations(onnxscript),
    )
    return program.model_proto.SerializeToString()


def run(data: bytes, inputs: dict[str, Tensor], onnxruntime: ModuleType) -> dict[str, Tensor]:
    """What ONNX Runtime makes of the inputs on the CPU, by name."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    made = session.run(names, {node.name: inputs[node.name].numpy() for node in session.get_inputs()})
    return {name: torch.from_numpy(value) for name, value in zip(names, made)}


def largest_error(made: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference of a result, relative to its largest value; the worst result counts."""
    return max(float((made[name] - value).abs().max() / value.abs().max()) for name, value in expected.items())


def make_part(
    networks: nn.Module, traced: dict[str, Tensor], checked: dict[str, Tensor], outputs: list[str], tools: Tools
) -> Part:
    """The file of a module of plain tensors, traced with some inputs and checked with others.

    Raises:
        UserError: ONNX Runtime makes of it what PyTorch does not.
    """
    data = to_onnx(networks, traced, outputs, tools.onnxscript)
    expected = dict(zip(outputs, networks(*checked.values())))
    error = largest_error(run(data, checked, tools.onnxruntime), expected)
    if not error <= LARGEST_ERROR:
        raise UserError(
            f"ONNX Runtime gives other results than PyTorch (by {error:.1e} of the largest value); nothing is written. "
            f"Install the versions of constraints.txt: pip install -c constraints.txt -r {ONNX_REQUIREMENTS}"
        )
    shapes = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (traced, expected))
    return Part(data, *shapes, error)


@torch.no_grad()
def make_parts(model: Real3DPortrait, config: Real3DPortraitConfig, tools: Tools) -> dict[str, Part]:
    """Both files by their names. The model is prepared for inference and marches in full."""
    examples = [example(model, config, seed) for seed in (TRACED, CHECKED)]
    sources = [model.encode(photo) for photo, _ in examples]
    photos = [named_tensors(photo, "photo") for photo, _ in examples]
    frames = [
        named_tensors(source, "source") | named_tensors(driving, "driving")
        for source, (_, driving) in zip(sources, examples)
    ]
    (photo, driving), source = examples[0], sources[0]
    made = list(named_tensors(source, "source"))
    return {
        "photo.onnx": make_part(PhotoNetworks(model, photo), *photos, made, tools),
        "frame.onnx": make_part(FrameNetworks(model, source, driving), *frames, list(FRAME_RESULTS), tools),
    }


def export(checkpoint: Path, output: Path) -> dict[str, Part]:
    """Write photo.onnx and frame.onnx into a folder.

    Raises:
        UserError: a package or the checkpoint is missing, the folder cannot be written, the model cannot be exported.
    """
    tools = Tools.find()
    folder = find_portrait(checkpoint)
    config = read_portrait_config(folder)
    check(folder, config)
    config = replace(config, renderer=replace(config.renderer, march="full"))
    model = prepare(load_portrait(folder, config))
    with named_file(output / "photo.onnx") as photo, named_file(output / "frame.onnx") as frame:
        parts = make_parts(model, config, tools)
        for path, part in zip((photo, frame), parts.values()):
            path.write_bytes(part.data)
    return parts


def listing(shapes: dict[str, tuple[int, ...]]) -> str:
    """Names and shapes, a line each."""
    return "\n".join(f"    {name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.export_onnx", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="folder with portrait/")
    parser.add_argument("--output", type=Path, required=True, help="folder for photo.onnx and frame.onnx")
    options = parser.parse_args(arguments)

    def body() -> None:
        for name, part in export(options.checkpoint, options.output).items():
            size = f"{len(part.data) / 1e6:.1f} MB"
            print(f"{options.output / name}: {size}, differs from PyTorch by {part.error:.1e} of the largest value")
            print(f"  inputs\n{listing(part.inputs)}\n  outputs\n{listing(part.outputs)}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
