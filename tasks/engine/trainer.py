"""The training loop: processes, optimisers, averages, checkpoints, logs. It knows no model.

A run is a folder: config.yaml, checkpoints/step_NNNNNNNN and checkpoints/best, metrics.jsonl, tensorboard/, pictures/.
Everything random in step s is a function of (seed, s, process) and the order of the data of (seed, epoch, position), so
a run that was killed resumes from its last checkpoint as if nothing had happened: on a CPU to the last bit, whatever
the number of workers. With `max_minutes` the rates may follow the clock, which no run repeats exactly.
"""

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from lightning.fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Subset

from modules.system.checkpoint import list_checkpoints, load_module, load_trainer_state, save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.engine.loader import StreamSampler, item_count, next_batch, training_loader
from tasks.engine.retention import remove_old
from tasks.engine.run_log import NullLog, RunLog
from tasks.engine.seeds import derived_seed, seed_layers
from tasks.engine.sharding import full_tensor, load_full, load_full_optimizer, unsharded
from tasks.engine.step import NotFiniteError, Stepper
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig

MEANINGS = (  # of the other numbers in a log
    "- loss/NAME: weighted, as it is minimised; unweighted/NAME: the same without its weight",
    "- total/PASS: sum of the weighted losses of a pass",
    "- validation/NAME: on held-out data, with averaged weights; rate/GROUP: learning rate",
    "- gradient_norm/PASS: before clipping; time/PART: shares of the time; speed: images and seconds",
)

SHOWN = 3  # names of those who validate


class StopSignals:
    """Inside the `with`, Ctrl-C, SIGTERM and SIGHUP only set `received`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> "StopSignals":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        self._old = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number


class Trainer:
    """Trains one task.

    Args:
        task: on the CPU.
        config: settings of the run.
        folder: of the run.
        resolved: what config.yaml holds.
        fabric: devices, precision and processes (tasks/engine/devices.py), launched.
        resume: checkpoint to resume from; None: start anew.
    """

    def __init__(
        self,
        task: Task,
        config: TrainerConfig,
        folder: Path,
        resolved: dict[str, Any],
        fabric: Fabric,
        resume: Path | None = None,
    ) -> None:
        self.task, self.config, self.folder, self.fabric = task, config, folder, fabric
        self.resolved = task.checkpoint_config(resolved)
        self.step, self.samples, self.elapsed = 0, 0, 0.0
        self.best: float | None = None
        self._first: dict[str, float] = {}  # the metrics before the first step, of a run that starts from weights
        self._last: dict[str, float] = {}  # and of the last validation
        self.metric = config.checkpoint.metric or task.best_metric  # that picks the best checkpoint; may be empty
        if config.checkpoint.select == "best" and not self.metric:
            raise UserError(
                f"checkpoint.select is best, but no metric of the task {task.name} can say which pictures are better "
                "without a perceptual loss; give loss.perceptual a weight, set checkpoint.metric, or select last"
            )
        self._seed = derived_seed(config.seed, 1)  # of the order of the data
        if resume:
            for name, part in task.modules.items():
                load_module(resume, name, part)
        else:
            task.begin()
        self.stepper = Stepper(task, config, fabric)  # resumed: the averages begin as the weights just loaded
        self._timer = self.stepper.timer
        self._validation = self._validation_loader()
        if resume:
            self._restore(resume)
        self.log = NullLog() if fabric.global_rank else RunLog(folder, self.step, config.steps, config.log.tensorboard)

    @property
    def samples_per_step(self) -> int:
        """Samples of all processes in one step."""
        return self.config.loader.batch * self.config.accumulate * self.fabric.world_size

    @property
    def progress(self) -> float:
        """Part of the training that is done, in [0, 1], by steps or by the clock."""
        by_clock = self.elapsed / (60 * self.config.max_minutes) if self.config.max_minutes else 0.0
        return min(1.0, max(self.step / self.config.steps, by_clock))

    def train(self) -> int:
        """Train to the end. Returns the signal that stopped it, 0 if none did.

        Raises:
            UserError: a loss that is not a number, a full disk, no data.
        """
        self._describe()
        batches = iter(self._training_loader())
        try:
            if self.step == 0:
                self._sanity_check()
            with StopSignals() as stop:
                received = self._loop(batches, stop)
            self._finish(received)
        except BaseException:
            with suppress(UserError):  # the first error is the one to report
                self.log.close()
            raise
        self.log.close()
        return received

    def _describe(self) -> None:
        """Write the config and the meaning of the losses as texts."""
        names = self.task.held_out if self._validation is not None and self.config.log.validate_every else []
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            self.log.line(f"validates: {', '.join(names[:SHOWN])}{more}")
        config = yaml.safe_dump(to_dict(self.resolved), sort_keys=False)
        self.log.text("config", f"```yaml\n{config}```")
        meanings = {name: term.meaning for name, term in self.task.terms.items()} | dict(self.task.logged)
        lines = [f"- loss/{name}: {meaning}" for name, meaning in meanings.items()]
        lines += [f"- validation/{name}: {metric.meaning}" for name, metric in self.task.metrics.items()]
        self.log.text("meaning", "\n".join([*lines, *MEANINGS]))

    def _loop(self, batches: Iterator[Any], stop: StopSignals) -> int:
        log, every = self.config.log, self.config.checkpoint.every
        began = time.monotonic() - self.elapsed
        logged = saved = self.elapsed
        logged_step, received = self.step, 0
        while self.progress < 1 and not received:
            self._train_step(batches)
            received, self.elapsed = self._agree(stop.received, time.monotonic() - began)
            self.log.advance()
            done = self.progress >= 1
            if self.step % log.every == 0 or done:
                self._log_means(self.elapsed - logged, self.step - logged_step)
                logged, logged_step = self.elapsed, self.step
            pictures, videos, validate = (
                interval > 0 and (self.step % interval == 0 or done)
                for interval in (log.pictures_every, log.videos_every, log.validate_every)
            )
            if pictures or videos:
                with self._timer("pictures"):
                    self._show(pictures, videos)
            if validate:
                with self._timer("validation"):
                    self._validate_and_keep_best()
            minutes = self.config.checkpoint.minutes
            if self.step % every == 0 or done or received or (minutes and self.elapsed - saved >= 60 * minutes):
                with self._timer("checkpoints"):
                    self._save(self.folder / "checkpoints" / f"step_{self.step:08d}")
                saved = self.elapsed
        return received

    def _train_step(self, batches: Iterator[Any]) -> None:
        with self._timer("data"):
            loaded = [self.fabric.to_device(next_batch(batches)) for _ in range(self.config.accumulate)]
        try:
            self.stepper.step(loaded, self.step, self.progress)
        except NotFiniteError as error:
            raise self._explained(error) from error
        self.step += 1
        self.samples += self.samples_per_step

    def _explained(self, error: NotFiniteError) -> UserError:
        """Keep the batch of the error beside the checkpoints and say where."""
        path = self.folder / f"not_finite_step_{self.step}_process_{self.fabric.global_rank}.pt"
        saved = f"the batch is in {path}"
        try:
            torch.save(
                {"step": self.step, "optimizer": error.optimizer, "batch": error.batch, "values": error.values}, path
            )
        except (OSError, RuntimeError) as failure:
            saved = f"the batch could not be saved ({failure})".replace("\n", " ")
        checkpoints = list_checkpoints(self.folder)
        last = f"the last checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint yet"
        return UserError(
            f"{error} at step {self.step}; {saved}, {last}; look for bad data in the batch, or try a "
            "lower learning rate"
        )

    def _agree(self, received: int, elapsed: float) -> tuple[int, float]:
        """The signal and the elapsed seconds on which all processes agree: the largest."""
        if self.fabric.world_size == 1:
            return received, elapsed
        values = torch.tensor([float(received), elapsed], dtype=torch.float64, device=self.fabric.device)
        received, elapsed = self._all_reduce(values, "max").tolist()
        return int(received), elapsed

    def _all_reduce(self, values: Tensor, operation: Literal["max", "mean", "sum"]) -> Tensor:
        """The values of all processes as one tensor."""
        return cast(Tensor, self.fabric.all_reduce(values, reduce_op=operation))  # collections give collections

    # ---- data

    def _training_loader(self) -> DataLoader:
        dataset, loader = self.task.train_dataset(), self.config.loader
        sampler = StreamSampler(
            item_count(dataset), loader.batch, self._seed, self.samples, self.fabric.global_rank, self.fabric.world_size
        )
        return training_loader(dataset, sampler, loader, self.task.collate, pin=self.fabric.device.type == "cuda")

    def _validation_loader(self) -> DataLoader | None:
        dataset, config = self.task.validation_dataset(), self.config
        if dataset is None or (count := item_count(dataset)) == 0:
            return None
        batch = config.loader.validation_batch or config.loader.batch
        last = min(count, batch * config.log.validation_batches)
        own = range(self.fabric.global_rank, last, self.fabric.world_size)
        return DataLoader(
            Subset(dataset, own), batch_size=batch, collate_fn=self.task.collate, generator=torch.Generator()
        )

    # ---- validation and pictures

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Averaged weights, eval mode, no gradients, random numbers that do not depend on the step."""
        seed_layers(self.fabric.device, self.config.seed, 3, self.fabric.global_rank)
        trained = self.stepper.trained.values()
        modes = [module.training for module in trained]
        for module in trained:
            module.eval()
        try:
            averages = self.stepper.ema.applied() if self.stepper.ema else nullcontext()
            with averages, unsharded(self.stepper.module), torch.no_grad():
                yield
        finally:
            for module, training in zip(trained, modes):
                module.train(training)

    def _validate(self, limit: int | None = None) -> dict[str, float]:
        """Means of the metrics over the validation samples of all processes."""
        totals: dict[str, float] = {}
        count = 0
        with self._evaluation():
            for number, batch in enumerate(self._validation or ()):
                if number == limit:
                    break
                size = _batch_size(batch)
                with self.fabric.autocast():  # not around the data: its geometry stays float32
                    metrics = self.task.validation_step(self.fabric.to_device(batch))
                for name, value in metrics.items():
                    totals[name] = totals.get(name, 0.0) + float(value) * size
                count += size
        names = self.fabric.broadcast(sorted(totals))  # of the first process; others may have no sample
        sums = torch.tensor([totals.get(name, 0.0) for name in names] + [count], dtype=torch.float64)
        sums = self._all_reduce(sums.to(self.fabric.device), "sum")
        return dict(zip(names, (sums[:-1] / sums[-1]).tolist()))

    def _validate_and_keep_best(self) -> None:
        metrics = self._validate()
        if not metrics:
            return
        self._last = metrics
        self._log_validation(metrics)
        if not (self.metric and self.config.checkpoint.best):
            return
        value = metrics[self.metric]
        if self._is_better(value):
            self.best = value
            self._save(self.folder / "checkpoints" / "best")

    def _log_validation(self, metrics: dict[str, float]) -> None:
        self.log.scalars(self.step, {f"validation/{name}": value for name, value in metrics.items()})
        self.log.line(
            f"step {self.step}  validation  " + "  ".join(f"{name} {value:.5g}" for name, value in metrics.items())
        )

    def _is_better(self, value: float) -> bool:
        if self.best is None or not math.isfinite(value):
            return math.isfinite(value)
        return self._exceeds(self.metric, value, self.best)

    def _exceeds(self, metric: str, value: float, other: float) -> bool:
        """Whether a value of a metric is better than another one."""
        return value > other if self.task.higher_is_better(metric) else value < other

    def _show(self, pictures: bool, videos: bool) -> None:
        if self._validation is None:
            return
        with self._evaluation():
            if self.fabric.global_rank == 0:
                batch = self.fabric.to_device(next(iter(self._validation)))
                with self.fabric.autocast():
                    images = self.task.pictures(batch) if pictures else {}
                    animations = self.task.videos(batch) if videos else {}
                self.log.pictures(self.step, images)
                self.log.videos(self.step, animations)
            self.fabric.barrier()

    def _sanity_check(self) -> None:
        """Validate and draw pictures before the first step, so that mistakes show now and not in an hour.

        One batch will do, unless the weights are trained ones: their figures are what the training has to better.
        """
        if self.config.log.validate_every and self._validation is not None:
            metrics = self._validate(limit=None if self.task.warm else 1)
            if metrics and self.metric and self.metric not in metrics:
                raise UserError(
                    f"checkpoint.metric is {self.metric}, but the validation of the task {self.task.name} "
                    f"gives {', '.join(metrics)}"
                )
            if self.task.warm and metrics:
                self._first = metrics
                self._log_validation(metrics)
        log = self.config.log
        if log.pictures_every or log.videos_every:
            self._show(log.pictures_every > 0, log.videos_every > 0)

    def _log_means(self, seconds: float, steps: int) -> None:
        means = self.stepper.means.read()
        names = sorted(means)
        values = torch.stack([means[name].to(self.fabric.device) for name in names])
        scalars = dict(zip(names, self._all_reduce(values, "mean").tolist()))
        speed = steps * self.samples_per_step / max(seconds, 1e-9)
        scalars |= {"speed/images_per_second": speed, "speed/seconds_per_step": seconds / max(steps, 1)}
        shares = {part: spent / max(seconds, 1e-9) for part, spent in self._timer.read().items()}
        scalars |= {f"time/{part}": share for part, share in shares.items()}
        scalars["time/rest"] = 1 - sum(shares.values())  # of the trainer itself
        self.log.scalars(self.step, scalars)
        left = (self.config.steps - self.step) * seconds / max(steps, 1)
        if self.config.max_minutes:
            left = min(left, 60 * self.config.max_minutes - self.elapsed)
        self.log.progress(self.step, scalars, speed, max(left, 0.0))

    # ---- checkpoints

    def _save(self, folder: Path) -> None:
        modules = {name: module.state_dict() for name, module in self.task.modules.items()}
        state = {
            "step": self.step,
            "samples": self.samples,
            "elapsed": self.elapsed,
            "best": self.best,
            "first": self._first,
            "metric": self.metric,
            "optimizers": {name: o.optimizer.state_dict() for name, o in self.stepper.optimizers.items()},
        }
        if self.stepper.ema:
            state["weights"] = {name: modules[name] for name in self.stepper.trained}
            modules |= {name: self.stepper.ema.state(name) for name in self.stepper.trained}
        if self.stepper.sharded:
            modules, state = full_tensor(modules), full_tensor(state)
        if self.fabric.global_rank == 0:
            save_checkpoint(folder, self.resolved, modules, state)
            remove_old(self.folder, self.config.checkpoint)
        self.fabric.barrier()

    def _restore(self, folder: Path) -> None:
        state = load_trainer_state(folder)
        if ("weights" in state) != (self.stepper.ema is not None):
            raise UserError(
                f"{folder} was written with ema {'on' if 'weights' in state else 'off'}; "
                "keep it as it was, or start anew with --fresh"
            )
        if state["optimizers"].keys() != self.stepper.optimizers.keys():
            raise UserError(
                f"{folder} has the optimisers {', '.join(state['optimizers'])}, this config "
                f"{', '.join(self.stepper.optimizers)}; start anew with --fresh"
            )
        if self.stepper.ema and state["weights"].keys() != self.stepper.trained.keys():
            raise UserError(
                f"{folder} has trained {', '.join(state['weights'])}, this config trains "
                f"{', '.join(self.stepper.trained)}; start anew with --fresh"
            )
        for name, weights in state.get("weights", {}).items():
            load_full(self.stepper.trained[name], weights)
        for name, optimizer in self.stepper.optimizers.items():
            self._restore_optimizer(folder, name, optimizer.optimizer, state["optimizers"][name])
        self.step, self.samples = state["step"], state["samples"]
        self.elapsed = state["elapsed"]
        self._first = state.get("first", {})  # files of earlier versions lack it
        if state.get("metric", self.metric) == self.metric:  # else the numbers cannot be compared
            self.best = state["best"]

    def _restore_optimizer(self, folder: Path, name: str, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Load the state of an optimiser unless it is that of another schedule.

        Raises:
            UserError: it is.
        """
        for key in ("betas", "eps", "weight_decay"):
            before, now = (
                {_as_tuple(group[key]) for group in groups}
                for groups in (state["param_groups"], optimizer.param_groups)
            )
            if before != now:
                raise UserError(
                    f"{folder}: the optimiser {name} had {key} {_words(before)}, in this config it has {_words(now)}; "
                    "keep it as it was, or start anew with --fresh"
                )
        try:
            load_full_optimizer(optimizer, state)
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{folder}: the state of the optimiser {name} is of other parameters than those that this config "
                f"trains ({str(error).splitlines()[0]}); keep the config as it was, or start anew with --fresh"
            ) from error

    def _finish(self, received: int) -> None:
        checkpoints = list_checkpoints(self.folder)
        best = self.folder / "checkpoints" / "best"
        title = f"stopped by {signal.Signals(received).name} after" if received else "finished"
        parts = (
            [f"{title} {self.step} steps in {self.elapsed / 60:.1f} minutes", f"weights: {checkpoints[-1]}"]
            if checkpoints
            else [f"{title} {self.step} steps"]
        )
        if self.best is not None and best.is_dir():
            parts.append(f"best {self.metric} {self.best:.5g}: {best}")
        if told := self.metric or next(iter(self._last), ""):
            if told in self._first and told in self._last:
                first, last = self._first[told], self._last[told]
                reached = last if self.best is None else self.best
                parts.append(f"validation {told} {first:.5g} -> {last:.5g}")
                if f"{first:.5g}" != f"{reached:.5g}" and self._exceeds(told, first, reached):
                    parts.append("worse than at the start: train longer, or keep the weights that it started from")
        if (self.folder / "pictures").is_dir():
            parts.append(f"pictures: {self.folder / 'pictures'}")
        parts.append(f"numbers: {self.folder / 'metrics.jsonl'}")
        if self.config.log.tensorboard:
            parts.append(f"curves: tensorboard --logdir {self.folder / 'tensorboard'}")
        self.log.line("; ".join(parts))


def _as_tuple(value: Any) -> Any:
    """Lists as tuples, which older checkpoints of sharded runs have as lists."""
    return tuple(value) if isinstance(value, list) else value


def _words(values: set[Any]) -> str:
    return " and ".join(sorted(map(str, values)))


def _batch_size(batch: Any) -> int:
    """Samples of a batch: the length of its first tensor, 1 if it has none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((_batch_size(value) for value in values if isinstance(value, Tensor | Mapping | list | tuple)), 1)
