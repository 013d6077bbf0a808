"""Python threads of one torch thread each, for the frames of a video.

That is faster than one frame by many torch threads, and it does not collapse when other programs use the processor:
torch's threads wait for each other in busy loops, these share nothing but the weights.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class FramePool(ThreadPoolExecutor):
    """Threads that are kept from one use to the next: each new one costs memory that PyTorch does not give back.

    Attributes:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, "frames", torch.set_num_threads, (1,))
        self.size = size


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | FramePool
) -> Iterator[Result]:
    """`map`, computed by `workers` threads, at most one item ahead; results in the order of the items.

    Each thread has one torch thread, so the results are the same to the last bit whatever their number. With 0 workers
    everything happens in the calling thread, as it is. What `function` raises is raised here; then, and when the
    iterator is closed, items that have not begun are dropped.
    """
    if workers == 0:
        yield from map(function, items)
        return
    pool = workers if isinstance(workers, FramePool) else FramePool(workers)
    waiting = iter(items)
    running: deque[Future[Result]] = deque()
    try:
        running.extend(pool.submit(function, item) for item in islice(waiting, pool.size + 1))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(function, item) for item in islice(waiting, 1))
            yield result
    finally:
        wait([future for future in running if not future.cancel()])
        if pool is not workers:
            pool.shutdown()
