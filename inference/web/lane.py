"""A thread for heavy work, beside the one that answers: one piece after another, in the order of asking."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

import torch

from inference.web.refusals import Refusal

Result = TypeVar("Result")


class Lane:
    """One worker thread.

    Attributes:
        waiting: pieces of work that wait or are being done.
    """

    def __init__(self, name: str, threads: int = 1, most: int = 128) -> None:
        """
        Args:
            threads: of torch, and thereby threads that make frames side by side.
            most: pieces that may wait before `admit` refuses.
        """
        self.waiting, self._most = 0, most
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix=name, initializer=torch.set_num_threads, initargs=(threads,)
        )

    def admit(self) -> None:
        """Raises: Refusal: so much work is waiting that more would wait too long."""
        if self.waiting >= self._most:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server is busy: {self.waiting} pieces of work wait; try again later",
                10,
            )

    async def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What the function gives or raises, after all that was asked for before; cancelling does not stop it."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """End the thread after what it is doing now; what waits is dropped."""
        self._pool.shutdown(cancel_futures=True)
