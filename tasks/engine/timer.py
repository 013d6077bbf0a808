"""Timer of a run: seconds spent in parts of the training loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Seconds spent in named parts of the loop since the last reading; parts do not contain each other."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time inside the `with` for `part`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """Seconds by part; the counts start anew."""
        seconds, self._seconds = self._seconds, {}
        return seconds
