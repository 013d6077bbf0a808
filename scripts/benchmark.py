"""How long each part of a frame takes, variants side by side in one run.

    python -m scripts.benchmark --size full --precision float32,bf16 --frames 3
    python -m scripts.benchmark --ways plain,prepared,band --busy 1
    python -m scripts.benchmark --checkpoint checkpoints/demo --device cuda --compile --batch 8 --json speed.json

Every repetition measures all variants one after the other, so that a machine that warms up or is busy treats them
alike; the table shows medians of wall time, of the whole frame also of process time, and ratios to the first variant.
Ways: the networks as they are trained, prepared for inference, and those with the band march. Without a checkpoint the
weights are random, and the density is that of a ball of a head's size, so that the march has a surface to find.
"""

import argparse
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inference.devices import PRECISIONS, choose_device
from inference.motion import Motion, natural_pose
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait, to_pixels
from inference.track import make_track
from modules.portrait.build import build_portrait, find_portrait, load_portrait, read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import Driving
from modules.portrait.prepared import prepare
from modules.portrait.real3d_portrait import Real3DPortrait, Source
from modules.procedural.head import procedural_model
from modules.system.errors import UserError, run_command
from modules.system.files import named_file

WAYS = ("plain", "prepared", "band")
PERSON = 900_007  # seed of a procedural person
BALL = 0.5  # its radius as a share of half the box; at full size it fills half of the picture, as a head with hair does
STEEPNESS = 2000.0  # raw density of the ball for each unit of the square of that share: a surface, not a fog
ONCE = ("image to plane", "source of HTB-SR")  # parts that are done once a photo
WHOLE, PROCESS = "whole frame", "whole frame, process time"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux


@dataclass
class Variant:
    """One way to run the model, and what was measured: seconds of each repetition by part, and the peak in bytes."""

    name: str
    dtype: torch.dtype
    model: Real3DPortrait
    compiled: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak: int | None = None

    def median(self, part: str) -> float:
        return statistics.median(self.seconds[part])


class Benchmark:
    """A model, a procedural person who turns the head and changes the expression, and the parts of a frame."""

    def __init__(self, model: Real3DPortrait, config: Real3DPortraitConfig, batch: int, device: torch.device) -> None:
        face_model = procedural_model()
        self.pipeline = TalkingPortrait(model, config, face_model, None, device)
        self.config, self.batch, self.device = config, batch, device
        self.portrait = Portrait.from_procedural(PERSON, face_model, config.resolution)
        generator = torch.Generator().manual_seed(0)
        euler, translation = natural_pose(batch, generator)
        motion = Motion(
            0.2 * torch.rand(batch, 64, generator=generator), euler, translation, torch.zeros(batch, 1), face_model.name
        )
        self.track = make_track(self.portrait, motion, face_model, config.driving)
        self.photo = self.pipeline.photo(self.portrait, self.track)
        self.still = self.pipeline.still_pncc(self.portrait, self.track)

    def parts(self, model: Real3DPortrait) -> Iterator[tuple[str, Callable[[], object]]]:
        """Name and function of each part, in the order of a frame; a part reads what the parts before it gave."""
        made: dict[str, Any] = {}

        def keep(name: str, function: Callable[[], object]) -> tuple[str, Callable[[], object]]:
            return name, lambda: made.__setitem__(name, function())

        yield keep("image to plane", lambda: model.canonical_planes(self.photo))
        if self.config.stage == 3:
            yield keep("source of HTB-SR", lambda: model.decoder.encode(self.photo))
        yield keep("PNCC", self.driving)
        driving, planes = made["PNCC"], made["image to plane"]
        if self.config.stage > 1:
            yield keep("motion adapter", lambda: model.drive(planes, driving.pncc)[0])
        driven = made.get("motion adapter", planes)
        yield keep("render", lambda: model.render(driven, driving))
        source = Source(planes, made.get("source of HTB-SR"))
        decoder = "HTB-SR" if self.config.stage == 3 else "super-resolution"
        yield decoder, lambda: model.decoder.decode(made["render"], source.decoder, driving.keypoints)
        yield WHOLE, lambda: to_pixels(model(source, self.pipeline.readable(self.driving())).image)

    def driving(self) -> Driving:
        """Camera, PNCCs and key points of the frames, as `TalkingPortrait` makes them."""
        return self.pipeline.driving(self.portrait, self.track, slice(0, self.batch), self.still)

    def measure(self, variant: Variant, record: bool) -> None:
        """Run every part once; `record` is False for the first time, which warms up and compiles."""
        reset_peak(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, variant.dtype, enabled=variant.dtype != torch.float32),
        ):
            for name, function in self.parts(variant.model):
                synchronize(self.device)
                start, busy = time.perf_counter(), time.process_time()
                function()
                synchronize(self.device)
                if record:
                    variant.seconds.setdefault(name, []).append(time.perf_counter() - start)
                if record and name == WHOLE:
                    variant.seconds.setdefault(PROCESS, []).append(time.process_time() - busy)
        if record:
            peak = peak_memory(self.device)
            variant.peak = peak if variant.peak is None else max(variant.peak, peak)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak(device: torch.device) -> None:
    """Reset the peak that `peak_memory` reports, where that is possible."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        CLEAR.write_text("5")  # see man proc: the peak of the resident set is reset


def peak_memory(device: torch.device) -> int | None:
    """The most bytes since `reset_peak`: of tensors on CUDA, of the whole process on Linux; None elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def variants(model: Real3DPortrait, precisions: list[str], ways: list[str], compiled: bool) -> list[Variant]:
    """Every precision in every way, and compiled if asked for: a copy whose parts are compiled when called."""
    result = []
    for precision in precisions:
        for way in ways:
            name = precision if way == "plain" else f"{precision} {way}"
            result.append(Variant(name, PRECISIONS[precision], in_way(model, way, PRECISIONS[precision])))
            if compiled:
                copy = deepcopy(result[-1].model)
                for part in copy.children():
                    part.compile()
                result.append(Variant(f"{name} compiled", PRECISIONS[precision], copy, compiled=True))
    return result


def in_way(model: Real3DPortrait, way: str, dtype: torch.dtype) -> Real3DPortrait:
    """A model of its own for each way but "plain"."""
    model = deepcopy(model) if way == "plain" else prepare(model, dtype)
    model.renderer.config = replace(model.renderer.config, march="band" if way == "band" else "full")
    return model


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute, while the `with` lasts."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()
            other.join()


def _spin() -> None:
    while True:
        pass


def table(measured: list[Variant], batch: int) -> str:
    """Markdown: milliseconds a frame (a photo for the parts that are done once), ratios to the first variant."""
    first = measured[0]
    header = [f"ms, {variant.name}" for variant in measured]
    header += [f"{variant.name} / {first.name}" for variant in measured[1:]]
    lines = [f"| part | {' | '.join(header)} |", "|---|" + "---:|" * len(header)]
    for part in first.seconds:
        share = 1 if part in ONCE else batch
        row = [f"{1000 * variant.median(part) / share:.1f}" for variant in measured]
        row += [f"{variant.median(part) / first.median(part):.2f}" for variant in measured[1:]]
        lines.append(f"| {part}{' (once)' if part in ONCE else ''} | {' | '.join(row)} |")
    speed = [batch / variant.median(WHOLE) for variant in measured]
    peaks = [None if variant.peak is None else variant.peak / 2**20 for variant in measured]
    for name, values, digits in (("frames a second", speed, 2), ("peak memory, MiB", peaks, 0)):
        row = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        row += ["-" if value is None else f"{value / values[0]:.2f}" for value in values[1:]]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def as_json(measured: list[Variant], facts: Mapping[str, object], batch: int) -> str:
    """The same figures for programs: seconds a batch of every repetition, frames a second, bytes."""
    values = {
        variant.name: {
            "seconds": variant.seconds,
            "peak_bytes": variant.peak,
            "frames_per_second": batch / variant.median(WHOLE),
        }
        for variant in measured
    }
    return json.dumps({**facts, "variants": values}, indent=1)


def attempt(bench: Benchmark, variant: Variant, record: bool) -> None:
    """`Benchmark.measure` with the two things that a user can mend as one line.

    Raises:
        UserError: too little memory on the device, or nothing to compile with.
    """
    try:
        bench.measure(variant, record)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{variant.name}: the device has too little memory; give a smaller --batch") from error
    except (RuntimeError, OSError) as error:
        if not variant.compiled:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"torch.compile does not work here ({reason}); leave out --compile") from error


def build(options: argparse.Namespace) -> tuple[Real3DPortrait, Real3DPortraitConfig]:
    """The checkpoint's model, or one of the given size with random weights; and its config."""
    if options.checkpoint:
        folder = find_portrait(options.checkpoint)
        config = read_portrait_config(folder)
        return load_portrait(folder, config), config
    config = Real3DPortraitConfig.full() if options.size == "full" else Real3DPortraitConfig.demo()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_portrait(config)
    model.renderer.decoder.pass_through(0, 0, STEEPNESS)
    model.renderer.register_forward_pre_hook(with_ball)
    return model, config


def with_ball(renderer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a renderer whose planes [B, 3, C*D, H, W] have a ball's raw density as first feature.

    The first plane holds r^2 - x^2 - y^2, the second -z^2; a feature is the mean of three planes.
    """
    planes, *others = arguments
    size, depth = planes.shape[-1], renderer.config.plane_depth
    place = (2 * torch.arange(size, dtype=planes.dtype, device=planes.device) + 1) / size - 1  # middles of the texels
    square = (place**2).expand(size, size)
    planes = planes.clone()
    planes[:, 0, :depth] = BALL**2 - square - square.T
    planes[:, 1, :depth] = -square.T
    planes[:, 2, :depth] = 0
    return planes, *others


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--checkpoint", type=Path, help="folder with portrait/")
    which.add_argument("--size", choices=("full", "demo"), default="demo", help="random weights of this size")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", default="float32", help="one or several of float32,bf16")
    parser.add_argument("--ways", default="plain,prepared", help=f"one or several of {','.join(WAYS)}")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it all the time")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--frames", type=int, default=8, help="frames that each variant makes")
    parser.add_argument("--batch", type=int, default=1, help="frames made together")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    options.precision, options.ways = options.precision.split(","), options.ways.split(",")
    return options


def check(options: argparse.Namespace) -> None:
    for name, known in (("precision", tuple(PRECISIONS)), ("ways", WAYS)):
        given = getattr(options, name)
        if set(given) - set(known) or len(set(given)) < len(given):
            raise UserError(f"--{name} {','.join(given)}: give one or several of {','.join(known)}")
    if options.busy < 0:
        raise UserError(f"--busy is {options.busy}; give 0 or more")
    for name in ("frames", "batch"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give at least 1")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)

    def body() -> None:
        check(options)
        device = choose_device(options.device)
        bench = Benchmark(*build(options), options.batch, device)
        measured = variants(bench.pipeline.model, options.precision, options.ways, options.compile)
        repetitions = math.ceil(options.frames / options.batch)
        with busy_processes(options.busy):
            for repetition in range(repetitions + 1):
                for variant in measured:
                    attempt(bench, variant, record=repetition > 0)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
        facts = {
            "device": f"{device} ({name})",
            "threads": torch.get_num_threads(),
            "busy beside it": options.busy,
            "torch": torch.__version__,
            "model": str(options.checkpoint or options.size),
            "picture": bench.config.resolution,
            "batch": options.batch,
            "repetitions": repetitions,
        }
        print(", ".join(f"{key} {value}" for key, value in facts.items()) + "\n")
        print(table(measured, options.batch))
        if options.json:
            with named_file(options.json) as part:
                part.write_text(as_json(measured, facts, options.batch), encoding="utf-8")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
