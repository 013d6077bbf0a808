"""Training steps in float64: the same numbers on every processor, and equal gradients where the mathematics says so."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from tasks.engine.step import Stepper
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig


@contextmanager
def float64() -> Iterator[None]:
    """Inside, what is float32 elsewhere is float64: the default type, and what `Tensor.float` makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", lambda self: self.to(torch.float64))
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def as_float64(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def double_stepper(task: Task, **settings: Any) -> Stepper:
    """The engine's steps of a task, whose modules become float64; to be used inside `float64`."""
    for module in (*task.modules.values(), *task.frozen.values()):
        module.double()
    fabric = Fabric(accelerator="cpu", devices=1, precision="64-true")
    fabric.launch()
    return Stepper(task, TrainerConfig(**settings), fabric)
