import pytest

from tasks.stages.learning_rates import RateConfig, htbsr_rates, i2p_rates, motion_adapter_rates


def test_the_image_to_plane_network_is_fixed_for_good_at_its_limit():
    rates = RateConfig(floor=5e-6)
    assert motion_adapter_rates(rates, 69_999, 200_000, 70_000)["image_to_plane"] > 0
    assert motion_adapter_rates(rates, 70_000, 200_000, 70_000)["image_to_plane"] == 0


def test_no_fine_tuning_means_no_rate_at_all():
    rates = RateConfig(i2p=0)
    assert all(motion_adapter_rates(rates, s, 200_000, 70_000)["image_to_plane"] == 0 for s in (0, 7000, 50_000))


def test_super_resolution_waits_for_the_adversary_in_stage_one():
    assert i2p_rates(RateConfig(), 29_999, 30_000)["superresolution"] == 0
    assert i2p_rates(RateConfig(), 30_000, 30_000)["superresolution"] > 0


def test_stage_three_halves_its_rate():
    rates = RateConfig(generator=1e-5, floor=1e-6, decay=0.5, decay_interval=50_000)
    assert htbsr_rates(rates, 50_000)["htbsr"] == pytest.approx(0.5 * htbsr_rates(rates, 49_999)["htbsr"])


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_rates_that_follow_progress_fall_to_nothing(kind):
    rates = RateConfig(kind=kind, warmup=10)
    course = [rates.progressive(1.0, 100, p / 10) for p in range(11)]
    assert course[0] == 1 and course[-1] == pytest.approx(0) and course == sorted(course, reverse=True)
    assert rates.progressive(1.0, 0, 0.0) == pytest.approx(0.1)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="steep"):
        RateConfig(kind="steep")
