"""How far long work is: a bar on a terminal, elsewhere a line every ten seconds; and at the start an estimate."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
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
    cost: Callable[[Item], float] | None = None,
) -> Iterator[Item]:
    """The items, one by one, while their progress is shown.

    Args:
        total: how many there will be.
        unit: what one of them is called.
        stream: stderr by default.
        interval: seconds between the lines that a stream gets which is no terminal.
        cost: seconds of one core that an item took; their sum so far is shown.
    """
    stream, spent = stream or sys.stderr, 0.0
    if stream.isatty():
        with tqdm(items, total=total, unit=unit, file=stream) as bar:
            for item in bar:
                if cost is not None:
                    spent += cost(item)
                    bar.set_postfix_str(_core_hours(spent))
                yield item
        return
    began = said = time.monotonic()
    announced, first = False, 0.0  # when the first item, which has the preparation's share, was ready
    for number, item in enumerate(items, 1):
        yield item
        spent += cost(item) if cost is not None else 0.0
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
            so_far = f"  {_core_hours(spent)} so far" if cost is not None else ""
            stream.write(f"{unit} {number}/{total}  {rate:.3g} {unit}s/s  {_clock(left)} left{so_far}\n")


def _core_hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} core-hours"


def _clock(seconds: float) -> str:
    """0:01:05"""
    return str(timedelta(seconds=round(seconds)))
