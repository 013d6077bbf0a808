"""The weighted losses of a step, as tensors and without an update; whether the best checkpoint is the better one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.engine.task import StepState, Task
from tests.tasks.steps import Steps


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
