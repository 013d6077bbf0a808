"""How sure a mean over clips is: bootstrap intervals, and those of paired differences of two methods.

Clips are drawn, not frames: frames of one clip are alike, and an interval over frames would be far too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, and between which bounds it lies.

    Args:
        mean: over the clips that have a number; NaN without any.
        low, high: percentiles of the means of resampled clips; NaN for less than two clips.
        count: clips that have a number.
    """

    mean: float
    low: float
    high: float
    count: int


def mean_interval(
    values: Sequence[float] | Tensor, generator: torch.Generator, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Mean over clips with its percentile-bootstrap interval (Efron, 1979).

    Args:
        values: [N] one number a clip; NaN (nothing measured) does not count.
        generator: on the CPU; the same seed gives the same interval.
        level: share of resamples inside of the interval.
        resamples: how often N clips are drawn with replacement.
    """
    numbers = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    numbers = numbers[numbers.isfinite()]
    count = len(numbers)
    if count < 2:
        return Interval(mean=float(numbers.mean()), low=float("nan"), high=float("nan"), count=count)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    bounds = numbers[drawn].mean(dim=1).quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return Interval(mean=float(numbers.mean()), low=float(bounds[0]), high=float(bounds[1]), count=count)


def paired_difference(
    values: Sequence[float] | Tensor,
    baseline: Sequence[float] | Tensor,
    generator: torch.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of values - baseline over the clips that both have, with its interval: 0 outside of it is a difference.

    Args:
        values, baseline: [N] of the same clips in the same order.
        generator, level, resamples: as for `mean_interval`.
    """
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (values, baseline))
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} clips against {len(b)}; a pair is two numbers of one clip")
    return mean_interval(a - b, generator, level, resamples)
