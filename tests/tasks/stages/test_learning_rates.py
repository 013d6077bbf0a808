from dataclasses import replace
from functools import partial

import pytest

from tasks.engine.settings import read_settings
from tasks.stages.learning_rates import (
    ImageLearningRates,
    LearningRates,
    MotionAdapterUnfreezing,
    Unfreezing,
    always,
    motion_adapter_share,
)
from tests.conftest import ROOT

STEPPED = LearningRates(generator=1e-3, warmup=10, decay=0.5, decay_interval=100, floor=1e-4)
share_of_stage_two = partial(
    motion_adapter_share, unfreeze=MotionAdapterUnfreezing(), rise=0, freeze_at=None, alone_from=None
)


def test_a_stepped_rate_rises_to_the_full_one_and_falls_to_its_floor():
    rates = {step: STEPPED.at(1e-3, step, 0.0) for step in (0, 5, 10, 99, 100, 199, 200, 10_000)}
    assert rates == pytest.approx(
        {0: 1e-4, 5: 5e-4, 10: 1e-3, 99: 1e-3, 100: 5e-4, 199: 5e-4, 200: 2.5e-4, 10_000: 1e-4}
    )


def test_an_exponential_rate_rises_below_its_floor_and_falls_smoothly():
    smooth = replace(STEPPED, schedule="exponential")
    rates = {step: smooth.at(1e-3, step, 0.0) for step in (0, 5, 10, 11, 50, 100, 10_000)}
    assert rates == pytest.approx(
        {0: 1e-7, 5: 5e-4, 10: 1e-3, 11: 1e-3 * 0.5**0.11, 50: 1e-3 * 0.5**0.5, 100: 5e-4, 10_000: 1e-4}
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_rates_that_follow_progress_fall_to_nothing(schedule):
    rates = replace(STEPPED, schedule=schedule)
    course = [rates.at(1.0, 100, p / 10) for p in range(11)]
    assert course[0] == 1 and course[-1] == pytest.approx(0) and course == sorted(course, reverse=True)
    assert course[5] == pytest.approx(0.5)
    assert rates.at(1.0, 0, 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["step", "exponential", "linear", "cosine"])
def test_without_a_warm_up_the_first_rate_is_the_full_one(schedule):
    assert LearningRates(schedule=schedule).at(1e-3, 0, 0.0) == 1e-3


def test_modules_have_their_own_rate_or_that_of_the_generator():
    rates = ImageLearningRates(generator=1e-4, renderer=1e-3)
    full = {group: rates.of(group, always)(5, 0.0) for group in ("image_to_plane", "tri_grid", "renderer", "htbsr")}
    assert full == {"image_to_plane": 1e-4, "tri_grid": 1e-4, "renderer": 1e-3, "htbsr": 1e-4}
    own = ImageLearningRates(generator=1e-4, image_to_plane=2e-4)
    assert own.of("tri_grid", always)(5, 0.0) == 2e-4  # both make the canonical planes


def test_the_discriminator_has_no_warm_up_and_falls_unless_it_is_constant():
    rates = ImageLearningRates(discriminator=1.7e-3, warmup=10, decay=0.5, decay_interval=100)
    falling, still = (r.of("discriminator", always) for r in (rates, replace(rates, constant_discriminator=True)))
    assert [falling(step, 0.0) for step in (0, 100)] == pytest.approx([1.6e-3, 0.8e-3])
    assert [still(step, 0.0) for step in (0, 100)] == pytest.approx([1.6e-3, 1.6e-3])


def test_a_rate_of_0_fixes_the_image_to_plane_network_whatever_the_floor():
    rate = ImageLearningRates(image_to_plane=0.0, floor=5e-6).of("image_to_plane", share_of_stage_two)
    assert all(rate(step, 0.0) == 0 for step in (0, 7000, 50_000))


def test_modules_are_fixed_until_their_step_in_every_schedule():
    unfreeze = Unfreezing(renderer=2000, superresolution=30_000)
    for schedule in ("step", "cosine"):
        rates = ImageLearningRates(schedule=schedule, floor=1e-5)
        renderer, upper = (rates.of(group, unfreeze.share) for group in ("renderer", "superresolution"))
        assert renderer(1999, 0.0) == 0 < renderer(2000, 0.0)
        assert upper(29_999, 0.0) == 0 < upper(30_000, 0.0)
        assert rates.of("image_to_plane", unfreeze.share)(0, 0.0) > 0


def test_the_image_to_plane_network_rises_slowly_and_is_fixed_for_good():
    share = partial(share_of_stage_two, rise=1000, freeze_at=800)
    assert [share("image_to_plane", step) for step in (0, 500, 799, 800, 10**6)] == [0, 0.5, 0.799, None, None]
    assert share("renderer", 800) == 1
    rate = ImageLearningRates(generator=1e-4, floor=5e-6).of("image_to_plane", share)
    assert [rate(step, 0.0) for step in (0, 40, 500, 800)] == pytest.approx([5e-6, 5e-6, 5e-5, 0])


def test_super_resolution_alone_is_trained_from_its_step_on():
    config = read_settings(ROOT / "configs/motion_adapter.yaml").task_config
    modules = ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution", "discriminator")

    def trained(step: int, **changed: int | None) -> set[str]:
        own = replace(config, **changed)
        return {group for group in modules if own.learning_rates.of(group, own.share)(step, 0.0) > 0}

    assert trained(199_999) == {"motion_adapter", "renderer", "superresolution", "discriminator"}
    assert trained(200_000) == trained(249_999) == {"superresolution", "discriminator"}
    assert trained(249_999, superresolution_alone_from=None) == trained(199_999)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"schedule": "steep"}, "schedule is steep; use step, exponential, linear, cosine"),
        ({"decay": 0.0}, "decay 0.0"),
        ({"decay_interval": 0}, "decay_interval 0"),
        ({"beta1": 1.0}, "beta1 1.0"),
        ({"floor": -1.0}, "floor -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LearningRates(**wrong)
