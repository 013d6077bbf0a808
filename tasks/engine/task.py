"""The interface of a training task: modules, optimisers, data, losses. The trainer knows nothing else about it.

A new task is a file with a config dataclass and a subclass of `Task` under `@register("name")` (engine/registry.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from modules.media.pixels import to_uint8

# Learning rate of a parameter group: (step, counted from 0; progress in [0, 1]) -> rate. The trainer sets it before
# each step. While it is 0 the group is fixed: no gradients, no part in clipping, no change of moments; a module whose
# groups are all fixed is in eval mode (engine/optimization.py).
Rate = Callable[[int, float], float]


def constant(rate: float) -> Rate:
    """The same rate at every step."""
    return lambda step, progress: rate


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate."""

    name: str
    parameters: list[nn.Parameter]
    rate: Rate


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """One Adam (AdamW with weight decay) of a task.

    It takes a step where step >= start and (step + 1) % every == 0. Optimisers run in the order of the list, on the
    same batch. A parameter is in one of them only; to run an optimiser twice in a step, name it twice in `Task.order`.
    """

    name: str
    groups: list[ParameterGroup]
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    every: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        if self.every < 1 or self.start < 0:
            raise ValueError(f"optimizer {self.name}: every {self.every} >= 1 and start {self.start} >= 0 must hold")
        if not self.groups or not all(group.parameters for group in self.groups):
            raise ValueError(f"optimizer {self.name}: a parameter group is empty")

    def runs(self, step: int) -> bool:
        """Whether it takes a step at `step`."""
        return step >= self.start and (step + 1) % self.every == 0


@dataclass(frozen=True)
class Metric:
    """What a metric of `Task.validation_step` means, in a line, and which way is better; "": it says nothing alone."""

    meaning: str
    better: Literal["higher", "lower", ""] = "lower"


@dataclass(kw_only=True)
class StepState:
    """What a task may use in one step, created anew for each batch and shared by the step's optimisers.

    Attributes:
        progress: in [0, 1], how much of the training is done (by steps, or by time if `max_minutes` is set).
        generator: on the CPU; a function of seed, step, process and accumulated batch, so that resuming is exact.
        cache: kept from one optimiser to the next, e.g. the generated images for the discriminator (detached).
        metrics: numbers to log that are not minimised (scalar tensors).
        unweighted: losses without their weights, to log beside them; `weigh` fills it.
    """

    progress: float
    generator: torch.Generator
    cache: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    unweighted: dict[str, Tensor] = field(default_factory=dict)

    def weigh(self, name: str, weight: float, loss: Tensor) -> dict[str, Tensor]:
        """Weight times loss, by name, as `Task.training_step` returns it; the loss itself is logged too."""
        self.unweighted[name] = loss.detach()
        return {name: weight * loss}


class Task:
    """Base of all tasks. Subclasses build everything in `__init__`, on the CPU, drawing from `generator`.

    Attributes:
        name: set by `register`.
        config_class: the dataclass of the task's keys in the YAML; `model_keys` are those that fix the shapes of the
            weights (a run is not resumed when they change); `terms` is the table of its losses (stages/terms.py),
            `term_inputs` that of what they may read, `other_losses` says of weights outside of it what they weigh,
            `logged` the same of the losses outside of it by their names in the log, where NAME stands for any loss and
            K for a number.
        modules: saved by name, moved to the device, trained if any of their parameters is in an optimiser (else in
            eval mode and without gradients).
        frozen: helpers that are neither trained nor saved (perceptual networks, teacher, face model); moved to the
            device, eval mode, no gradients.
        order: names of optimisers, in the order in which they run in a step; empty: as `optimizers()` lists them.
            A name may carry a word for the task: `generator:source`, `generator:target` are passes of `generator`.
        best_metric: the metric of `validation_step` that decides which checkpoint is the best, unless the config names
            another (`checkpoint.metric`); empty: no metric of the stage can, and none is kept.
        metrics: what `validation_step` gives, by name; of a metric that is not among them lower is better.
    """

    name: ClassVar[str] = ""
    config_class: ClassVar[type]
    model_keys: ClassVar[tuple[str, ...]] = ("model",)
    terms: ClassVar[Mapping[str, Any]] = {}
    term_inputs: ClassVar[Mapping[str, Any]] = {}
    other_losses: ClassVar[Mapping[str, str]] = {}
    logged: ClassVar[Mapping[str, str]] = {}
    order: tuple[str, ...] = ()
    best_metric: str = "loss"
    metrics: ClassVar[Mapping[str, Metric]] = {}
    modules: dict[str, nn.Module]
    frozen: dict[str, nn.Module]

    def __init__(self, config: Any, generator: torch.Generator) -> None:
        self.config = config
        self.modules, self.frozen = {}, {}

    @classmethod
    def files(cls, config: Any, fresh: bool) -> list[tuple[str, ...]]:
        """Outside files that a run will read, each with the names that will do instead, to name all missing at once.

        Args:
            config: an instance of `config_class`.
            fresh: whether the run starts (`begin`); False: it resumes.
        """
        return []

    @classmethod
    def notes(cls, config: Any) -> list[str]:
        """What is as well to know before a run with these settings begins, a line each."""
        return []

    @classmethod
    def higher_is_better(cls, metric: str) -> bool:
        """Whether a higher value of a metric of `validation_step` is the better one."""
        return metric in cls.metrics and cls.metrics[metric].better == "higher"

    @property
    def device(self) -> torch.device:
        """The device that holds the modules."""
        return next(parameter.device for module in self.modules.values() for parameter in module.parameters())

    def begin(self) -> None:
        """Load published weights here. Called once for a new run, not on resume; the modules are on the CPU."""

    @property
    def warm(self) -> bool:
        """Whether a new run starts from trained weights, so that a validation before its first step says something."""
        return bool(getattr(self.config, "init_from", ""))

    @property
    def held_out(self) -> list[str]:
        """Names of the clips that validate; empty where none does, or they have no names."""
        return []

    def optimizers(self) -> list[OptimizerSpec]:
        """The optimisers. Called when the modules are on their device, and again if their parameters were sharded."""
        raise NotImplementedError

    def train_dataset(self) -> Dataset:
        """Map-style data set whose item i is a function of (seed, i) alone; it must be picklable for the workers."""
        raise NotImplementedError

    def validation_dataset(self) -> Dataset | None:
        """Like `train_dataset`, in a fixed order; None: no validation."""
        return None

    def collate(self, items: list[Any]) -> Any:
        """Items -> a batch on the CPU (tensors in dicts, lists, tuples). Runs in the workers: a function of `items`."""
        return default_collate(items)

    def training_step(self, batch: Any, step: int, optimizer: str, state: StepState) -> Mapping[str, Tensor]:
        """Weighted losses, whose sum `optimizer` (an entry of `order`) lowers. Empty: it rests this step.

        Those that `state.weigh` gives are logged without their weights too.
        Only parameters of that optimiser have requires_grad. Which losses are there may depend on `step` (lazy
        regularisation) but not on the data, because all processes must agree. Called for each of a step's accumulated
        batches; their gradients are averaged, so losses that are means over samples count as those of one large batch.
        """
        raise NotImplementedError

    def validation_step(self, batch: Any) -> Mapping[str, Tensor | float]:
        """Metrics, means over the batch; no gradients, modules in eval mode, with the averaged (EMA) weights."""
        return {}

    def pictures(self, batch: Any) -> Mapping[str, Tensor]:
        """Pictures of the first validation batch: uint8 [H, W, 3]; see `grid`. Called as `validation_step`."""
        return {}

    def videos(self, batch: Any) -> Mapping[str, Tensor]:
        """Short videos for the first validation batch: uint8 [T, H, W, 3], 25 frames a second. Called as `pictures`."""
        return {}

    def after_step(self, step: int, state: StepState) -> None:
        """Called once after all optimisers of a step, e.g. to adapt a weight; it may only change a module's buffers."""

    def checkpoint_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The content of config.yaml in a checkpoint: by default the whole resolved config of the run."""
        return config


def grid(rows: list[Tensor], limit: int = 8) -> Tensor:
    """Float pictures in [-1, 1] as one uint8 picture: each entry [B, 1 or 3, H, W] is a row, samples side by side.

    Rows may differ in height and width; each is resized (nearest) to the first row's size.
    """
    height, width = rows[0].shape[-2:]
    lines = []
    for row in rows:
        row = row[:limit].detach().float()
        if row.shape[-2:] != (height, width):
            row = nn.functional.interpolate(row, size=(height, width))
        lines.append(torch.cat(list(row.expand(-1, 3, -1, -1)), dim=-1))  # [3, H, B*W]
    picture = torch.cat(lines, dim=-2).permute(1, 2, 0)  # [H, W, 3]
    return to_uint8(picture).cpu()
