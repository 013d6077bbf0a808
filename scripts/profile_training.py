"""Where the time of a training step goes: a short run of a config in a folder that is deleted afterwards.

    python -m scripts.profile_training configs/demo/i2p.yaml --steps 40
    python -m scripts.profile_training configs/i2p.yaml teacher=procedural views.people=2 --steps 2 --json i2p.json

The trainer's own timer is read (`time/...` of metrics.jsonl): waiting for data, forward (the task's losses), backward,
optimiser steps. What is left is the trainer's overhead: averages, norms and clipping, guards, rates, logs. The first
quarter of the steps is not counted; there is no validation, no picture, no limit of minutes. On CUDA forward is the
time until all work is queued and backward the time until it is done.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs, named_file
from modules.system.interrupts import Stopped
from scripts.benchmark import peak_memory
from tasks.engine.devices import launch_fabric
from tasks.engine.settings import read_settings
from tasks.engine.task import Task
from tasks.run import build_trainer

TIMES = {
    "data": "waiting for data",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimiser steps",
    "rest": "trainer (overhead)",
}
INTERVALS = 4  # log lines of the run; the first is dropped


def short_run(steps: int) -> list[str]:
    """Settings that make a run of `steps` steps which only trains."""
    return [
        f"steps={steps}",
        f"log.every={steps // INTERVALS or 1}",
        "max_minutes=null",
        "log.pictures_every=0",
        "log.videos_every=0",
        "log.validate_every=0",
        f"checkpoint.every={steps}",
        "checkpoint.minutes=0",
    ]


def shares(lines: list[dict[str, Any]]) -> tuple[float, dict[str, float]]:
    """Lines of metrics.jsonl -> seconds a step, and the share of each part; the first line is left out."""
    steps = [after["step"] - before["step"] for before, after in zip(lines, lines[1:])]
    seconds = [line["speed/seconds_per_step"] * count for line, count in zip(lines[1:], steps)]
    spent = {part: sum(line.get(f"time/{part}", 0.0) * s for line, s in zip(lines[1:], seconds)) for part in TIMES}
    return sum(seconds) / sum(steps), {part: value / sum(seconds) for part, value in spent.items()}


def parameter_counts(task: Task) -> dict[str, int]:
    """Parameters of each module and of each frozen helper."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in {**task.modules, **task.frozen}.items()}


def measure(config: Path, overrides: list[str], steps: int, device: str) -> dict[str, Any]:
    """Train `steps` steps.

    Raises:
        UserError: as `tasks.run`, or too few steps.
    """
    if steps < 2:
        raise UserError(f"--steps is {steps}; use at least 2, the first is not counted")
    fixed = {setting.partition("=")[0] for setting in short_run(steps)}
    for override in overrides:
        if override.partition("=")[0] in fixed:
            raise UserError(f"{override} is not used: a profile sets {', '.join(sorted(fixed))} itself; leave it out")
    settings = read_settings(config, [*overrides, *short_run(steps)])
    fabric = launch_fabric(settings.trainer, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(settings, Path(folder), fabric)
        counts = parameter_counts(trainer.task)
        if received := trainer.train():
            raise Stopped(received)
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds, parts = shares(lines)
    return {
        "config": str(config),
        "device": str(fabric.device),
        "precision": settings.trainer.precision,
        "threads": torch.get_num_threads(),
        "batch": settings.trainer.loader.batch,
        "steps": steps,
        "seconds_per_step": seconds,
        "shares": parts,
        "peak_bytes": peak_memory(fabric.device),
        "parameters": counts,
    }


def table(profile: dict[str, Any]) -> str:
    """What `measure` gives, as Markdown."""
    peak = profile["peak_bytes"]
    counts = "  ".join(f"{name} {count / 1e6:.2f} M" for name, count in profile["parameters"].items() if count)
    lines = [
        f"{profile['config']}: {profile['device']}, {profile['threads']} threads, precision "
        f"{profile['precision']}, batch {profile['batch']}, {profile['steps']} steps",
        f"parameters: {counts}",
        f"peak memory: {'unknown' if peak is None else f'{peak / 2**30:.2f} GiB'} (start and checkpoint included)",
        "",
        "| part of a step | ms | share |",
        "| --- | ---: | ---: |",
    ]
    for part, title in TIMES.items():
        share = profile["shares"][part]
        lines.append(f"| {title} | {1000 * share * profile['seconds_per_step']:.1f} | {100 * share:.1f} % |")
    lines.append(f"| whole step | {1000 * profile['seconds_per_step']:.1f} | 100 % |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, and write the numbers if asked for."""
    keep_inputs({"--json": options.json}, {"the config": options.config})
    profile = measure(options.config, options.overrides, options.steps, options.device)
    print(table(profile))
    if options.json:
        with named_file(options.json) as part:
            part.write_text(json.dumps(profile, indent=1), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 2 after an error the user can mend, 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    parser = argparse.ArgumentParser(prog="python -m scripts.profile_training", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a YAML of configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
