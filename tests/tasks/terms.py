"""The weighted losses of a step, as tensors and without an update; whether the best checkpoint is the better one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.clips.fields import FIELDS
from tasks.engine.task import StepState, Task
from tasks.stages.terms import Input, Inputs
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import tiny_perceptual_loss

VIEWS = ("source_", "reference_", "target_")  # before the names of terms


def generator_terms(task: Task, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    """Losses of all passes of the generator at `step`; the same batch and step give the same random numbers."""
    torch.manual_seed(0)  # dropout
    state, losses = StepState(progress=0.0, generator=torch.Generator().manual_seed(0)), {}
    for name in task.order or [spec.name for spec in task.optimizers()]:
        if not name.startswith("discriminator"):
            losses |= task.training_step(batch, step, name, state)
    return losses


def gain_of_best_metric(task: Task, batch: Mapping[str, Tensor], steps: int = 12) -> float:
    """How much better the metric that picks the best checkpoint says the task is once its losses have fallen."""

    def metric() -> float:
        for module in task.modules.values():
            module.eval()
        with torch.no_grad():
            return float(task.validation_step(batch)[task.best_metric])

    before = metric()
    for module in task.modules.values():
        module.train()
    take_step = Steps(task)
    for _ in range(steps):
        take_step(batch, step=1)
    return (before - metric()) * (-1 if task.higher_is_better(task.best_metric) else 1)


def check_inputs(table: Mapping[str, Input], inputs: Inputs, **sizes: int) -> None:
    """Each input is what the table says: shape, type, range. Fields of clips, which others declare, may be there too.

    Args:
        sizes: what the letters of the shapes stand for.
    """
    assert table.keys() == inputs.keys() - FIELDS.keys()
    for name, declared in table.items():
        if name == "network":
            continue  # its weights are not at hand
        value = inputs[name]()
        value = value.detach() if isinstance(value, Tensor) else value
        if not declared.shape:
            assert callable(value), name
            continue
        letters = [part.strip().partition("/") for part in declared.shape.strip("[]").split(",")]
        shape = [int(sizes.get(letter, letter)) // int(share or 1) for letter, _, share in letters]
        assert list(value.shape) == shape, f"{name} has shape {list(value.shape)}, said to be {declared.shape}"
        if declared.values in ("bool", "int64"):
            assert str(value.dtype) == f"torch.{declared.values}", name
        elif declared.values.startswith("in "):
            low, high = map(int, declared.values.removeprefix("in ").strip("[]").split(","))
            assert low - 1e-5 <= float(value.min()) <= float(value.max()) <= high + 1e-5, name


def check_factors(
    make: Callable[[dict[str, float]], Task], weights: Mapping[str, float], batch: Mapping[str, Tensor], step: int
) -> None:
    """Each weight is the factor of its term and of no other: with another factor for each, the terms grow by theirs.

    Args:
        make: a task with these weights, always the same one otherwise.
        weights: those that are changed; others that `make` adds stay.
    """
    factors = {name: 2.0 + number for number, name in enumerate(weights)}
    plain = generator_terms(make(dict(weights)), batch, step)
    changed = generator_terms(make({name: factors[name] * weight for name, weight in weights.items()}), batch, step)
    seen = set()
    for name, term in plain.items():
        loss = next((name.removeprefix(view) for view in VIEWS if name.startswith(view)), name)
        seen.add(loss)
        torch.testing.assert_close(
            changed[name], factors.get(loss, 1.0) * term, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert seen >= weights.keys()


def check_best_metric(
    kind: type[Task],
    configs: tuple[Any, Any],
    batch: Mapping[str, Tensor],
    metrics: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best checkpoint is that of the perceptual loss; of PSNR only without it, and never beside an adversary.

    Args:
        configs: without and with an adversary.
        metrics: the names of PSNR and of the perceptual loss.
    """
    plain, adversarial = configs

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    assert [kind(config, seeded()).best_metric for config in configs] == [metrics[0], ""]
    for module in ("i2p", "frame_pair_stage"):
        monkeypatch.setattr(f"tasks.stages.{module}.PerceptualLoss.from_assets", tiny_perceptual_loss)
    task = kind(replace(adversarial, loss=adversarial.loss | {"perceptual": 0.1}), seeded())
    for part in task.modules.values():
        part.eval()
    with torch.no_grad():
        assert float(task.validation_step(batch)[task.best_metric]) > 0
    assert task.best_metric == metrics[1] and not task.higher_is_better(task.best_metric)
