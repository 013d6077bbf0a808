"""The engine's training step for the tests: in one process, on the CPU."""

from collections.abc import Mapping

from torch import Tensor

from tasks.engine.devices import launch_fabric
from tasks.engine.step import Stepper
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig


class Steps:
    """Takes steps of a task as the trainer does.

    Args:
        task: moved to the CPU.
        settings: of the trainer, such as `clip` and `ema`.
    """

    def __init__(self, task: Task, **settings: float) -> None:
        config = TrainerConfig(precision="32-true", **settings)
        self.stepper = Stepper(task, config, launch_fabric(config, "cpu"))

    def __call__(self, batch: Mapping[str, Tensor], step: int, progress: float = 0.0) -> dict[str, float]:
        """Take step `step` with one batch; returns the losses."""
        self.stepper.means.read()
        self.stepper.step([batch], step, progress)
        return {
            name.removeprefix("loss/"): float(value)
            for name, value in self.stepper.means.read().items()
            if name.startswith("loss/")
        }
