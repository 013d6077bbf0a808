"""Toy runs for the trainer's tests."""

import json
from pathlib import Path

import torch

from modules.system.checkpoint import list_checkpoints, load_state, load_trainer_state
from tasks.run import main

TOY = """
task: tests.tasks.toy
steps: 20
loader: {batch: 4, workers: 0}
log: {every: 1, pictures_every: 0, validate_every: 0, tensorboard: false}
checkpoint: {every: 5, keep: 2, milestone: 0}
ema: 0.9
"""


def toy_config(folder: Path) -> Path:
    path = folder / "toy.yaml"
    path.write_text(TOY)
    return path


def toy_arguments(folder: Path, *overrides: str, output: str = "run") -> list[str]:
    return [str(toy_config(folder)), *overrides, "--output", str(folder / output), "--device", "cpu"]


def run_toy(folder: Path, *overrides: str, output: str = "run") -> int:
    """Train in this process; the exit code of the command."""
    return main(toy_arguments(folder, *overrides, output=output))


def metrics(run: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def all_weights(run: Path) -> dict[str, torch.Tensor]:
    """Every number that the newest checkpoint holds: averages, weights, moments."""
    folder = list_checkpoints(run)[-1]
    state = load_trainer_state(folder)
    names = ("generator", "discriminator")
    flat = {f"{name}/{key}": t for name in names for key, t in load_state(folder, name).items()}
    flat |= {f"raw/{name}/{key}": t for name, part in state.get("weights", {}).items() for key, t in part.items()}
    for name, optimizer in state["optimizers"].items():
        flat |= {f"{name}/{i}/{key}": t for i, moments in optimizer["state"].items() for key, t in moments.items()}
    return flat


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
