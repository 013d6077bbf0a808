"""Settings that every training run shares: the keys of configs/base.yaml."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How training data is read."""

    batch: int = 1  # samples a process sees at once
    validation_batch: int = 0  # 0: as `batch`
    workers: int = 2  # processes that read data; 0: none, the trainer reads itself
    prefetch: int = 2  # batches each worker prepares ahead
    start_method: Literal["auto", "fork", "spawn", "forkserver"] = "auto"  # auto: spawn on macOS and Windows

    def __post_init__(self) -> None:
        if self.batch < 1 or self.workers < 0 or self.prefetch < 1 or self.validation_batch < 0:
            raise ValueError(
                f"batch {self.batch} >= 1, workers {self.workers} >= 0, prefetch {self.prefetch} >= 1, "
                f"validation_batch {self.validation_batch} >= 0 must hold"
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written: every `every` steps, every `minutes` minutes (0: not), at the end, when stopped."""

    every: int = 2000  # steps between checkpoints
    minutes: float = 0.0  # between checkpoints by the clock; 0: by steps alone
    keep: int = 2  # newest ones that stay
    milestone: int = 50000  # multiples of it stay for ever; 0: none
    best: bool = True  # keep the best by the metric as `best`
    select: Literal["last", "best"] = "last"  # which one the next stage and the export take of this run
    metric: str = ""  # of the validation, by which the best is the best; empty: the stage's own

    def __post_init__(self) -> None:
        if self.select == "best" and not self.best:
            raise ValueError("select is best, but best is false, so that none is kept; set best to true")
        if self.every < 1 or self.keep < 1 or self.milestone < 0 or self.minutes < 0:
            raise ValueError(
                f"every {self.every} >= 1, keep {self.keep} >= 1, milestone {self.milestone} >= 0, "
                f"minutes {self.minutes} >= 0 must hold"
            )


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """When numbers and pictures are written, in steps (0: never)."""

    every: int = 50  # losses, rates, speed: means since the last time
    pictures_every: int = 1000  # steps between pictures; 0: none
    videos_every: int = 10000  # short videos, of the tasks that make them
    validate_every: int = 2000  # steps between validations; 0: none
    validation_batches: int = 50  # at most
    tensorboard: bool = True  # write event files

    def __post_init__(self) -> None:
        others = (self.pictures_every, self.videos_every, self.validate_every, self.validation_batches)
        if min(others) < 0 or self.every < 1:
            raise ValueError(f"log: every {self.every} >= 1 and the other intervals >= 0 must hold")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Settings of the trainer; together with `task` and the task's own keys they are the keys of a YAML.

    `max_minutes` ends training after so much time in all, resumed parts included, and makes progress follow the clock
    if that is ahead of the steps; such a run is saved and resumed like others, but two of them are not bit-equal.
    """

    steps: int = 100000  # of the whole run
    max_minutes: float | None = None  # ends the run earlier by the clock; null: no
    seed: int = 0  # of first weights, order of the data, and all that is drawn
    strategy: Literal["ddp", "fsdp"] = "ddp"  # of several processes: each holds all weights, or a part of them
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16-mixed on CUDA, 32-true on a CPU
    accumulate: int = 1  # batches per step, whose gradients are averaged
    clip: float = 1.0  # largest gradient norm of an optimiser; 0: not clipped
    ema: float = 0.0  # decay of the averaged weights, e.g. 0.999; 0: none
    threads: int = 0  # CPU threads of a process; 0: PyTorch decides
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1 or self.threads < 0 or self.clip < 0:
            raise ValueError(
                f"steps {self.steps} >= 1, accumulate {self.accumulate} >= 1, "
                f"threads {self.threads} >= 0, clip {self.clip} >= 0 must hold"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay is in [0, 1)")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**63 - 1}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes is {self.max_minutes}; it must be positive or null")
