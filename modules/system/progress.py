"""How far long work is: a bar on a terminal, elsewhere a line every ten seconds; and at the start an estimate."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
INTERVAL = 10.0  # seconds between lines
WARM_UP = 1.0  # seconds of work from which the rest is estimated
WORTH_SAYING = 5.0  # seconds; what ends sooner needs no words


def with_progress(
    items: Iterable[Item],
    total: int,
    unit: str = "frame",
    stream: TextIO | None = None,
    interval: float = INTERVAL,
) -> Iterator[Item]:
    """The items, one by one, while their progress is shown.

    Args:
        total: how many there will be.
        unit: what one of them is called.
        stream: stderr by default.
        interval: seconds between the lines that a stream gets which is no terminal.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        yield from tqdm(items, total=total, unit=unit, file=stream)
        return
    began = said = time.monotonic()
    announced, first = False, 0.0  # when the first item, which has the preparation's share, was ready
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if number == 1:
            first = now
            continue
        rate = (number - 1) / max(now - first, 1e-9)
        left = (total - number) / rate
        if not announced and now - first >= WARM_UP:
            announced = True
            if left >= WORTH_SAYING:
                stream.write(f"{total} {unit}s, about {_clock(now - began + left)}\n")
        if now - said >= interval:
            said = now
            stream.write(f"{unit} {number}/{total}  {rate:.3g} {unit}s/s  {_clock(left)} left\n")


def _clock(seconds: float) -> str:
    """0:01:05"""
    return str(timedelta(seconds=round(seconds)))
