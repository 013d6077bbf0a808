"""Whether every full stage trains on a GPU: steps in bf16, speed, memory, and losses beside those of a CPU's float32.

    python -m scripts.check_gpu --output gpu                                 # 50 steps of each stage
    python -m scripts.check_gpu --output gpu --stages htbsr --steps 20

Data and networks that the project does not bring have stand-ins of the same sizes: noise for clips, a procedural
teacher and face model, no perceptual network. All losses run from the first step on, R1 every 16 steps. The loss of the
first step is compared, before weights differ. Also asked: NCCL in a group of one process, and SyncBatchNorm in it.
Writes OUTPUT/gpu.json; the exit code is 2 when a stage fails or a loss is out of bounds.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from modules.audio.features import AudioFeatures
from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from scripts.benchmark import peak_memory, reset_peak
from tasks.run import main as train

CLIP_SIZE, CLIP_FRAMES = 512, 40  # of the stand-in clips
SHORT = ("max_minutes=null", "log.validate_every=0", "log.pictures_every=0", "log.videos_every=0", "log.every=1",
         "log.tensorboard=false", "checkpoint.minutes=0")  # fmt: skip
NOBODY = "data.split={validation: 0, test: 0}"  # is held out
ALL_AT_ONCE = ("start_adversarial=0", "learning_rates.schedule=linear", "learning_rates.warmup=1", "loss.perceptual=0")
FACE = ("model.driving.face_model=procedural", "init_from=''", "loss.lips_perceptual=0")
RELATIVE, ABSOLUTE = 0.05, 0.01  # by which a loss in bf16 may differ from the CPU's


@dataclass(frozen=True)
class Stage:
    """A config, and what stands in for outside files; `{work}` in a setting is the folder of the check."""

    config: str
    settings: tuple[str, ...]


FULL_STAGES = {
    "i2p": Stage("configs/i2p.yaml", (*ALL_AT_ONCE, "loss.perceptual_raw=0", "teacher=procedural", "views.people=2",
                 "views.views=3", f"views.size={CLIP_SIZE}", "views.cache={work}/views", "held_out_people=1",
                 "initial_weights=none", "density_every=1", "unfreeze={renderer: 0, superresolution: 0}")),
    "motion_adapter": Stage("configs/motion_adapter.yaml", (*ALL_AT_ONCE, *FACE, NOBODY, "loss.perceptual_raw=0",
                            "data.folder={work}/clips", "initial_weights=none", "density_every=1", "laplacian_every=1",
                            "unfreeze={motion_adapter: 0, renderer: 0, superresolution: 0}",
                            "superresolution_alone_from=null")),
    "htbsr": Stage("configs/htbsr.yaml", (*ALL_AT_ONCE, *FACE, NOBODY, "data.folder={work}/clips")),
    "syncnet": Stage("configs/syncnet.yaml", ("face_model=procedural", NOBODY, "data.folder={work}/clips")),
    "a2m": Stage("configs/a2m.yaml", ("face_model=procedural", NOBODY, "data.folder={work}/clips", "loss.sync=0",
                 "sync_checkpoint=''")),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a stage did.

    Args:
        images_per_second: without the first step; None of a single step.
        gigabytes: the most memory of tensors on the GPU, of the process on a CPU.
        losses: of the first step by name: on the device, and on a CPU in float32.
        outside: names of the losses that differ by more than `RELATIVE` and `ABSOLUTE` allow.
    """

    stage: str
    steps: int
    images_per_second: float | None
    gigabytes: float | None
    losses: Mapping[str, tuple[float, float]]
    outside: tuple[str, ...]


def stand_in_clips(folder: Path) -> Path:
    """Two clips of noise, 512 pixels, with PNCCs and HuBERT features of noise, in `folder`."""
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    classes = np.zeros((CLIP_SIZE, CLIP_SIZE), np.uint8)
    classes[96:320, 128:384], classes[320:, 64:448] = 3, 4
    frames = random.integers(0, 255, (4, CLIP_SIZE, CLIP_SIZE, 3), np.uint8).repeat(CLIP_FRAMES // 4, axis=0)
    pncc = random.integers(0, 255, (CLIP_FRAMES + 1, 3, CLIP_SIZE, CLIP_SIZE), np.uint8)
    speech = AudioFeatures(
        torch.randn(2 * CLIP_FRAMES, 1024, generator=generator),
        100 + 50 * torch.rand(2 * CLIP_FRAMES, generator=generator),
    )
    for number in range(2):
        face = FaceCoefficients.neutral(CLIP_FRAMES).replace(
            expression=0.3 * torch.randn(CLIP_FRAMES, 64, generator=generator),
            translation=torch.tensor([[0, 0, -5.0]] * CLIP_FRAMES),
        )
        content = ClipContent(
            frames=frames,
            classes=[classes] * CLIP_FRAMES,
            background=frames[0],
            face=face,
            face_model="procedural",
            landmarks=np.zeros((CLIP_FRAMES, 68, 2)),
            audio=random.normal(0, 0.1, 640 * CLIP_FRAMES).astype(np.float32),
            speech={"hubert": speech},
            pncc=pncc,
        )
        write_clip(folder / f"clip_{number}", content)
    return folder


def check_stage(name: str, stage: Stage, work: Path, device: str, steps: int) -> Result:
    """Train a stage on the device in bf16 and one step of it on the CPU in float32.

    Raises:
        UserError: a run ended with an error, which it has printed.
    """
    reset_peak(torch.device(device))
    lines = _run(stage, work, work / f"{name}_{device.replace(':', '_')}", "bf16-mixed", device, steps)
    memory = peak_memory(torch.device(device))
    (exact, *_) = _run(stage, work, work / f"{name}_reference", "32-true", "cpu", 1)
    losses = {key: (lines[0][key], value) for key, value in exact.items() if key.startswith("loss/")}
    speeds = [line["speed/images_per_second"] for line in lines[1:] if "speed/images_per_second" in line]
    return Result(
        name,
        len(lines),
        float(np.median(speeds)) if speeds else None,
        None if memory is None else memory / 2**30,
        losses,
        tuple(key for key, pair in losses.items() if not math.isclose(*pair, rel_tol=RELATIVE, abs_tol=ABSOLUTE)),
    )


def _run(stage: Stage, work: Path, run: Path, precision: str, device: str, steps: int) -> list[dict[str, float]]:
    """Lines of metrics.jsonl, one a step."""
    settings = [setting.replace("{work}", str(work)) for setting in stage.settings]
    short = [*SHORT, f"steps={steps}", f"checkpoint.every={steps}", f"precision={precision}"]
    if code := train([stage.config, *short, *settings, "--fresh", "--output", str(run), "--device", device]):
        raise UserError(f"{stage.config} in {precision} on {device} ended with exit code {code}; see the lines above")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if any(key.startswith("loss/") for key in line)]


def check_processes(device: torch.device, store: Path) -> bool:
    """A group of one process (NCCL on CUDA, else gloo): a sum, and on CUDA SyncBatchNorm forwards and backwards."""
    store.unlink(missing_ok=True)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{store.absolute()}", rank=0, world_size=1)
    try:
        values = torch.arange(4.0, device=device)
        dist.all_reduce(values)
        right = torch.equal(values.cpu(), torch.arange(4.0))
        if device.type != "cuda":
            return right
        plain = nn.BatchNorm2d(8).to(device)
        layers = plain, nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(8)).to(device)
        images = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
        inputs = [images.clone().requires_grad_() for _ in layers]
        outputs = [layer(part) for layer, part in zip(layers, inputs)]
        for output in outputs:
            output.square().sum().backward()
        pairs = (outputs, [part.grad for part in inputs])
        return right and all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
    finally:
        dist.destroy_process_group()


def report(results: list[Result], processes: bool, say: Callable[[str], None] = print) -> None:
    """A line for each stage and each loss that is out of bounds."""
    for result in results:
        speed = "" if result.images_per_second is None else f", {result.images_per_second:.2f} images/s"
        memory = "" if result.gigabytes is None else f", {result.gigabytes:.1f} GiB"
        say(f"{result.stage}: {result.steps} steps{speed}{memory}, {len(result.losses)} losses compared")
        for key in result.outside:
            say(f"  {key}: {result.losses[key][0]:.5g}, on the CPU in float32 {result.losses[key][1]:.5g}")
    say(f"group of one process: {'right' if processes else 'WRONG'}")


def main(arguments: list[str] | None = None, stages: Mapping[str, Stage] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after an error or a loss that is out of bounds."""
    stages = stages or FULL_STAGES
    parser = argparse.ArgumentParser(prog="python -m scripts.check_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for runs, stand-ins and gpu.json")
    parser.add_argument("--stages", nargs="+", choices=list(stages), default=list(stages))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args(arguments)

    def body() -> None:
        device = torch.device(options.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "PyTorch sees no CUDA device; run this where there is one, or see it work with --device cpu"
            )
        if options.steps < 1:
            raise UserError(f"--steps is {options.steps}; give at least 1")
        if not (options.output / "clips").is_dir():
            stand_in_clips(options.output / "clips")
        results = [
            check_stage(name, stages[name], options.output, options.device, options.steps) for name in options.stages
        ]
        processes = check_processes(device, options.output / "group")
        with named_file(options.output / "gpu.json") as part:
            part.write_text(json.dumps({"stages": [asdict(r) for r in results], "processes": processes}, indent=1))
        report(results, processes)
        outside = [result.stage for result in results if result.outside]
        if outside or not processes:
            raise UserError(f"out of bounds: {', '.join(outside) or 'the group of one process'}; see the lines above")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
