"""Python threads of one torch thread each, for the frames of a video.

That is faster than one frame by many torch threads, and it does not collapse when other programs use the processor:
torch's threads wait for each other in busy loops, these share nothing but the weights.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map`, computed by `workers` threads, at most one item ahead; results in the order of the items.

    Each thread has one torch thread, so the results are the same to the last bit whatever their number. With 0 workers
    everything happens in the calling thread, as it is. What `function` raises is raised here; then, and when the
    iterator is closed, items that have not begun are dropped.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="frames", initializer=torch.set_num_threads, initargs=(1,))
    waiting = iter(items)
    try:
        running: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(waiting, workers + 1))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
