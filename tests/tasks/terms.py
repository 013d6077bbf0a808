"""The weighted losses of a step, as tensors and without an update."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.engine.task import StepState, Task


def generator_terms(task: Task, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    """Losses of all passes of the generator at `step`; the same batch and step give the same random numbers."""
    torch.manual_seed(0)                                              # dropout
    state, losses = StepState(progress=0.0, generator=torch.Generator().manual_seed(0)), {}
    for name in task.order or [spec.name for spec in task.optimizers()]:
        if not name.startswith("discriminator"):
            losses |= task.training_step(batch, step, name, state)
    return losses
