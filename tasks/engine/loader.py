"""Training data as an endless stream of batches whose order is a function of seed, epoch and position alone.

Positions count samples over all processes: step s takes the next accumulate * processes * batch of them, whatever the
number of processes or workers, so a run can be resumed exactly, and on other hardware with the same samples per step.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sized
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from modules.system.errors import UserError
from tasks.engine.trainer_config import LoaderConfig

ROUNDS = 6
WORD = (1 << 64) - 1


def shuffled(position: int, count: int, seed: int, epoch: int) -> int:
    """Entry `position` of a random permutation of range(count), without making the others (a Feistel network).

    Outputs that fall outside the range are put through it again, which keeps it a permutation.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for key in _round_keys(seed, epoch):
            left, right = right, left ^ (_mix(right ^ key) & mask)
        position = left << half | right
        if position < count:
            return position


@lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(int(k) for k in np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64))


def _mix(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB & WORD
    return value ^ value >> 31


class StreamSampler(Sampler[list[int]]):
    """Endless batches of indices for one process.

    Args:
        count: size of the data set.
        batch: samples a process sees at once.
        seed: of the order.
        start: samples that all processes together have seen before.
        rank, world: this process and how many there are.
    """

    def __init__(self, count: int, batch: int, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> None:
        if count < 1:
            raise UserError("the training data is empty; check the data folder of the config")
        self.count, self.batch, self.seed = count, batch, seed
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        position = self.start + self.rank * self.batch
        while True:
            yield [
                shuffled(p % self.count, self.count, self.seed, p // self.count)
                for p in range(position, position + self.batch)
            ]
            position += self.batch * self.world


def item_count(dataset: Dataset) -> int:
    """Items of a map-style data set.

    Raises:
        ValueError: it has no length, which `torch.utils.data.Dataset` leaves open.
    """
    if not isinstance(dataset, Sized):
        raise ValueError(f"the data set {type(dataset).__name__} has no length; give it __len__")
    return len(dataset)


def training_loader(
    dataset: Dataset, sampler: StreamSampler, config: LoaderConfig, collate: Callable[[list], Any], pin: bool = False
) -> DataLoader:
    """The loader of one process. Workers start with the first batch and stay."""
    method: str | None = config.start_method
    if method == "auto":
        method = "spawn" if sys.platform in ("darwin", "win32") else None
    workers: dict[str, Any] = {}
    if config.workers:
        workers = {
            "num_workers": config.workers,
            "prefetch_factor": config.prefetch,
            "persistent_workers": True,
            "multiprocessing_context": method,
            "worker_init_fn": _start_worker,
        }
    # A generator of its own keeps the loader from drawing on the global one.
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(sampler.seed),
        **workers,
    )


def next_batch(batches: Iterator[Any]) -> Any:
    """The next batch; a `UserError` of a worker process becomes one line again."""
    try:
        return next(batches)
    except UserError as error:
        raise UserError(str(error).rstrip().rpartition("UserError: ")[2]) from error


def _start_worker(number: int) -> None:
    """Workers leave signals to the trainer, which ends them after saving, and use one thread each."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is not known to Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
