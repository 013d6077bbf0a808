"""Run one function over many items in several processes: results as they are ready, one thread in each process."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

import cv2
import torch

from modules.system.errors import UserError
from modules.system.interrupts import Interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")
# What runs a function over items with a number of workers: `run_all`, or that of modules/system/cluster.py.
Engine = Callable[[Callable[[Any], Any], Sequence[Any], int], Iterator[Any]]


def run_all(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results of `function` for all items, in the order in which they are ready.

    Args:
        function: a function of a module, or a `partial` of one: it is sent to the processes.
        items: the arguments, one for each call.
        workers: processes; with 1, or one item, everything happens in this one, in order.
    Raises:
        UserError: a process was killed. What `function` raises is raised here; then what has not begun is dropped.
        KeyboardInterrupt: a signal stopped this process; the others have stopped, too, and cleaned up.
    """
    if workers < 2 or len(items) < 2:
        yield from map(function, items)
        return
    others = set(active_children())
    with _blocked_signals():  # for the process that Python starts to watch over the others
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread)
    call = partial(_stoppable, function)
    waiting = iter(items)
    try:
        with _blocked_signals():
            running = {pool.submit(call, item) for item in islice(waiting, workers)}  # no more: a stop is soon done
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(call, item) for item in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory; run again to resume, with fewer workers"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Processes that are started inside never see Ctrl-C or SIGHUP, which a terminal sends to all of a command.

    This process stops them instead, so that they end the same way for every signal, and in silence.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _stoppable(function: Callable[[Item], Result], item: Item) -> Result:
    """The call in a worker; after SIGTERM it cleans up, and the process ends without a word."""
    try:
        with Interrupts():
            return function(item)
    except KeyboardInterrupt as stop:
        os._exit(128 + getattr(stop, "number", signal.SIGINT))


def one_thread() -> None:
    """One thread for the arithmetic of this process."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
