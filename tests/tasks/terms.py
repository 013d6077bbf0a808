"""The weighted losses of a step, as tensors and without an update; whether the best checkpoint is the better one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.engine.task import StepState, Task
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
    return (before - metric()) * (-1 if task.best_metric in task.higher_is_better else 1)


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
    assert task.best_metric == metrics[1] and task.best_metric not in task.higher_is_better
