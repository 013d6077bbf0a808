"""Run one function over many items in several processes: results as they are ready, one thread in each process."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

import cv2
import torch

from modules.system.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_all(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `function` for all items, in the order in which they are ready.

    Args:
        function: a function of a module, or a `partial` of one: it is sent to the processes.
        items: the arguments, one for each call.
        workers: processes; with 1, or one item, everything happens in this one, in order.
    Raises:
        UserError: a process was killed. What `function` raises is raised here; then what has not begun is dropped.
    """
    if workers < 2 or len(items) < 2:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)
    waiting = iter(items)
    try:
        running = {pool.submit(function, item) for item in islice(waiting, workers)}  # no more: a stop is soon done
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(function, item) for item in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory; run again to resume, with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
