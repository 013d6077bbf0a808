"""One training step: all optimisers of a task in their order, on the same batches.

The trainer repeats it; the tests of the stages take it in one process. Everything random in step s is a function of
(seed, s, process).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn

from tasks.engine.ema import Ema
from tasks.engine.optimization import (
    Rates,
    build_optimizer,
    check_specs,
    clip_gradients,
    enable_only,
    optimizer_of_pass,
    set_modes,
    set_rates,
    set_trainable,
)
from tasks.engine.run_log import Means
from tasks.engine.seeds import derived_seed, seed_layers
from tasks.engine.sharding import average_unsharded_gradients, is_sharded, reshard, total_norm
from tasks.engine.task import OptimizerSpec, StepState, Task
from tasks.engine.timer import Timer
from tasks.engine.trainer_config import TrainerConfig


class TrainStep(nn.Module):
    """All modules of a task as one, whose forward is its training step: the unit that is distributed and cast.

    Attributes:
        batch, state: those of the next pass, put here before it; wrappers would copy them if they were arguments.
    """

    batch: Any
    state: StepState

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(task.modules)
        self._step = task.training_step

    def forward(self, step: int, name: str) -> dict[str, Tensor]:
        """The losses of one pass over the batch and the state that were put here."""
        return dict(self._step(self.batch, step, name, self.state))


class NotFiniteError(Exception):
    """A loss or a gradient that is not a number. The weights have not been touched by it.

    Attributes:
        optimizer: the pass (an entry of `Task.order`) whose values these are.
        values: losses, or the gradient norm, by name; `bad` are the names of those that are not finite.
        batch: the one that gave them.
    """

    def __init__(self, optimizer: str, values: Mapping[str, Tensor], batch: Any) -> None:
        self.optimizer, self.batch = optimizer, batch
        self.values = {name: value.detach() for name, value in values.items()}
        self.bad = [name for name, value in self.values.items() if not bool(value.isfinite().all())]
        super().__init__(f"{', '.join(self.bad)} is not finite")


class Stepper:
    """Takes the training steps of a task: rates, passes forward and backward, clipping, optimisers, averages.

    Args:
        task: its modules and frozen helpers are moved to the device and put in their modes.
        config: `seed`, `clip` and `ema` are used.
        fabric: device, precision and processes (tasks/engine/devices.py), launched.
    Attributes:
        module: all modules of the task as one.
        sharded: whether its weights are shared out over the processes.
        specs, optimizers, order: the optimisers by name, and the passes of a step.
        trained: the modules that have parameters in an optimiser, by name.
        ema: the averages of their weights; None without.
        means: losses with and without their weights, rates, gradient norms and the task's metrics of the steps since
            the last reading.
        timer: seconds spent in the parts of these steps.
    """

    def __init__(self, task: Task, config: TrainerConfig, fabric: Fabric) -> None:
        self.task, self.config, self.fabric = task, config, fabric
        self.means, self.timer = Means(), Timer()
        for part in task.frozen.values():
            part.to(fabric.device).eval().requires_grad_(False)
        for part in task.modules.values():
            part.to(fabric.device)
        self.specs = {spec.name: spec for spec in task.optimizers()}
        self.order = task.order or tuple(self.specs)
        check_specs(list(self.specs.values()), self.order)
        self.trained = set_trainable(task.modules, list(self.specs.values()))
        self.module = TrainStep(task)
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.module)  # in place; a process may see one sample
        self._wrapped = fabric.setup_module(self.module)
        self.sharded = is_sharded(self.module)
        if self.sharded:
            self.specs = {spec.name: spec for spec in task.optimizers()}  # of the shards, which are new parameters
        self.optimizers = {name: _set_up(fabric, spec) for name, spec in self.specs.items()}
        self.ema = Ema(self.trained, config.ema) if config.ema else None

    def step(self, batches: list[Any], step: int, progress: float) -> None:
        """Take step `step`.

        Args:
            batches: on the device; the gradients of several are averaged.
            progress: how much of the training is done, in [0, 1].
        Raises:
            NotFiniteError: before the optimiser concerned has changed anything.
        """
        numbers = (self.config.seed, 2, step, self.fabric.global_rank)
        states = [
            StepState(progress=progress, generator=torch.Generator().manual_seed(derived_seed(*numbers, i)))
            for i in range(len(batches))
        ]
        seed_layers(self.fabric.device, *numbers, len(batches))
        rates = {
            name: set_rates(spec, self.optimizers[name].optimizer, step, progress) for name, spec in self.specs.items()
        }
        set_modes(self.trained, list(self.specs.values()), rates)
        for name in self.order:
            spec = self.specs[optimizer_of_pass(name)]
            if spec.runs(step):
                self._update(name, spec, rates[spec.name], step, list(zip(batches, states)))
        self.task.after_step(step, states[-1])
        if self.ema:
            self.ema.update(step)
        for state in states:
            for name, value in state.metrics.items():
                self.means.add(f"metric/{name}", value)

    def _update(
        self, name: str, spec: OptimizerSpec, rates: Rates, step: int, batches: list[tuple[Any, StepState]]
    ) -> None:
        """One pass of an optimiser: gradients of all batches, then its step."""
        optimizer = self.optimizers[spec.name]
        for group, rate in rates.items():
            self.means.add(f"rate/{group}", rate)
        if not any(rates.values()):
            return
        enable_only(list(self.specs.values()), spec, rates)
        if not self._backward(name, step, batches):
            return
        parameters = [p for group in spec.groups for p in group.parameters]
        if self.sharded:
            average_unsharded_gradients(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = total_norm(gradients)
        check_finite(name, {f"gradient of {name}": norm}, batches[-1][0])
        self.means.add(f"gradient_norm/{name}", norm)
        clip_gradients(gradients, norm, self.config.clip)
        with self.timer("optimizer"):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _backward(self, name: str, step: int, batches: list[tuple[Any, StepState]]) -> bool:
        """Add up the gradients of the batches' losses; False if the task lets this pass rest.

        Every batch takes the pass, also one that rests: what a task counts or keeps in its state is the same for all.
        """
        works = False
        for i, (batch, state) in enumerate(batches):
            self.module.batch, self.module.state = batch, state
            last = i == len(batches) - 1
            with nullcontext() if last else self.fabric.no_backward_sync(self._wrapped):
                with self.timer("forward"):
                    losses = self._wrapped(step, name)
                if not losses:
                    reshard(self.module)
                    continue
                works = True
                total = torch.stack([loss.float() for loss in losses.values()]).sum() / len(batches)
                with self.timer("backward"):
                    self.fabric.backward(total)
                    self._wait()  # the check would wait here anyway
            check_finite(name, losses, batch)
            for loss, value in losses.items():
                self.means.add(f"loss/{loss}", value)
                if loss in state.unweighted:
                    self.means.add(f"unweighted/{loss}", state.unweighted[loss])
            self.means.add(f"total/{name}", torch.stack([value.detach().float() for value in losses.values()]).sum())
        return works

    def _wait(self) -> None:
        """Wait for the device."""
        if self.fabric.device.type == "cuda":
            torch.cuda.current_stream().synchronize()


def _set_up(fabric: Fabric, spec: OptimizerSpec) -> _FabricOptimizer:
    """The optimiser of `spec` as the processes share it."""
    return cast(_FabricOptimizer, fabric.setup_optimizers(build_optimizer(spec)))  # a tuple for several alone


def check_finite(optimizer: str, values: Mapping[str, Tensor], batch: Any) -> None:
    """Refuse values that are not finite.

    Raises:
        NotFiniteError: with all of them and the batch.
    """
    finite = torch.stack([value.detach().float() for value in values.values()]).isfinite()
    if not bool(finite.all()):  # one wait for the device
        raise NotFiniteError(optimizer, values, batch)
