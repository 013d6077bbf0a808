import math

import pytest
import torch

from modules.metrics.bootstrap import mean_interval, paired_difference


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_the_interval_is_that_of_the_normal_law_for_many_clips(generator):
    values = torch.randn(400, generator=generator)
    interval = mean_interval(values, seed())
    error = 1.96 * float(values.std()) / 20
    assert interval.mean == pytest.approx(float(values.mean()), abs=1e-6) and interval.count == 400
    assert interval.mean - interval.low == pytest.approx(error, rel=0.1)
    assert interval.high - interval.mean == pytest.approx(error, rel=0.1)


def test_about_19_of_20_intervals_hold_the_true_mean(generator):
    intervals = [mean_interval(torch.randn(30, generator=generator), seed(), resamples=1000) for _ in range(200)]
    inside = sum(interval.low < 0 < interval.high for interval in intervals)
    assert 178 <= inside <= 199


def test_the_same_seed_gives_the_same_interval_and_nan_does_not_count():
    values = [1.0, 2.0, float("nan"), 4.0]
    interval = mean_interval(values, seed())
    assert interval == mean_interval(values, seed()) and interval.count == 3
    assert interval.mean == pytest.approx(7 / 3) and 1 <= interval.low < interval.high <= 4
    assert mean_interval(values, seed(), level=0.5).high < interval.high


def test_one_clip_has_a_mean_and_no_interval_and_none_has_neither():
    one, none = mean_interval([3.0], seed()), mean_interval([], seed())
    assert one.mean == 3 and math.isnan(one.low) and one.count == 1
    assert math.isnan(none.mean) and none.count == 0


def test_a_small_steady_difference_is_seen_in_pairs_and_not_between_intervals(generator):
    baseline = 5 * torch.randn(20, generator=generator)
    better = baseline + 0.3 + 0.1 * torch.randn(20, generator=generator)
    difference = paired_difference(better, baseline, seed())
    assert 0.2 < difference.low < 0.3 < difference.high < 0.4
    a, b = mean_interval(better, seed()), mean_interval(baseline, seed())
    assert a.low < b.high
    with pytest.raises(ValueError, match="20 clips against 19"):
        paired_difference(better, baseline[1:], seed())
