"""The recipe of the paper in the steps that the engine takes, with tiny models and without outside files.

Optimisers, rates, what is trained when, and the weights of the losses of the full configs (tests/test_recipe.py).
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.settings import read_settings
from tasks.engine.task import OptimizerSpec, Task
from tasks.stages import adversary, htbsr, motion_adapter, syncnet
from tasks.stages.adversary import Adversary
from tasks.stages.i2p import reference_runs
from tests.conftest import ROOT
from tests.tasks.conftest import face
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import ADVERSARY, changed_parts, pair_batch, tiny_model, view_batch
from tests.tasks.tiny_speech import A2M, DATA, SYNC
from tests.test_recipe import I2P

__all__ = ["face"]  # a fixture


def small(stage: str, name: str = "") -> Task:
    """The task of the full config, or of another one of the stage, with a tiny model and no perceptual network."""
    settings = read_settings(ROOT / f"configs/{name or stage}.yaml")
    config = settings.task_config
    if stage in ("i2p", "motion_adapter", "htbsr"):
        number = {"i2p": 1, "motion_adapter": 2, "htbsr": 3}[stage]
        loss = {name: weight for name, weight in config.loss.items() if "perceptual" not in name}
        own = (
            {"teacher": "procedural"}
            if stage == "i2p"
            else {"data": ClipDataConfig(torso=stage == "htbsr", eye_closing=stage == "motion_adapter")}
        )
        config = replace(
            config,
            model=tiny_model(number),
            loss=loss,
            init_from="",
            **own,
            adversary=replace(config.adversary, discriminator=ADVERSARY.discriminator),
        )
    else:
        own = (
            {"model": SYNC}
            if stage == "syncnet"
            else {"model": A2M, "sync_checkpoint": "", "loss": replace(config.loss, sync=0.0)}
        )
        config = replace(config, features="mel", face_model="procedural", data=DATA, **own)
    return settings.task(config, torch.Generator().manual_seed(0))


def optimisers(stage: str) -> dict[str, OptimizerSpec]:
    return {spec.name: spec for spec in small(stage).optimizers()}


@pytest.mark.parametrize(
    "stage, name, betas",
    [
        ("i2p", "generator", (0.0, 0.99)),
        ("motion_adapter", "generator", (0.0, 0.99)),  # docs/spec/training.md#1-1
        ("htbsr", "generator", (0.0, 0.99)),
        ("i2p", "discriminator", (0.0, 0.99 ** (16 / 17))),
        ("htbsr", "discriminator", (0.0, 0.99 ** (16 / 17))),
        ("motion_adapter", "discriminator", (0.0, 0.99 ** (16 / 17))),
        ("syncnet", "syncnet", (0.9, 0.999)),  # docs/spec/training.md#1-6
        ("a2m", "audio2motion", (0.9, 0.999)),  # docs/spec/training.md#1-5
    ],
)
def test_adam_is_that_of_the_original(face: object, stage: str, name: str, betas: tuple[float, float]) -> None:
    spec = optimisers(stage)[name]
    assert spec.betas == pytest.approx(betas, abs=1e-12)
    assert (spec.epsilon, spec.weight_decay, spec.every, spec.start) == (1e-8, 0.0, 1, 0)


R = 2e-4 * 16 / 17
RATES = {
    # docs/spec/training.md#1-2: backbone, decoder, super-resolution, discriminator
    ("i2p", ("image_to_plane", "renderer", "superresolution", "discriminator")): {
        0: (1e-5, 0, 0, R),
        1999: (4.9975e-5, 0, 0, R),
        2000: (5e-5, 5e-5, 0, R),
        4000: (1e-4, 1e-4, 0, R),
        5000: (9.5e-5, 9.5e-5, 0, R),
        29_999: (1e-4 * 0.95**5, 1e-4 * 0.95**5, 0, R),
        30_000: (*(3 * [1e-4 * 0.95**6]), R),
        250_000: (1e-5, 1e-5, 1e-5, R),
    },
    # docs/spec/training.md#1-3: image to plane, adapter, decoder, super-resolution, discriminator
    ("motion_adapter", ("image_to_plane", "motion_adapter", "renderer", "superresolution", "discriminator")): {
        0: (5e-6, 0, 0, 0, R),
        1: (5e-6, 5e-6, 0, 0, R),
        6000: (5e-6, 9.5e-5, 0, 0, 0.95 * R),
        6001: (5e-6, 9.5e-5, 9.5e-5, 0, 0.95 * R),
        30_000: (1e-4 * 3 / 22 * 0.95**6, 1e-4 * 0.95**6, 1e-4 * 0.95**6, 0, R * 0.95**6),
        30_001: (1e-4 * 30_001 / 220_000 * 0.95**6, *(3 * [1e-4 * 0.95**6]), R * 0.95**6),
        69_999: (1e-4 * 69_999 / 220_000 * 0.95**13, *(3 * [1e-4 * 0.95**13]), R * 0.95**13),
        70_000: (0, *(3 * [1e-4 * 0.95**14]), R * 0.95**14),
        199_999: (0, *(3 * [1e-4 * 0.95**39]), R * 0.95**39),
        200_000: (0, 0, 0, 1e-4 * 0.95**40, R * 0.95**40),
    },
    # docs/spec/training.md#1-4
    ("htbsr", ("htbsr", "discriminator")): {
        0: (1e-6, R),
        1000: (2.5e-6, R),
        4000: (1e-5, R),
        49_999: (1e-5, R),
        50_000: (5e-6, R / 2),
        200_000: (1e-6, R / 16),
        10**6: (1e-6, 1e-6),
    },
    # docs/spec/training.md#1-6
    ("syncnet", ("syncnet",)): {
        0: (1e-3,),
        4999: (1e-3,),
        5000: (9.8e-4,),
        400_000: (1e-3 * 0.98**80,),
        10**6: (5e-5,),
    },
    # docs/spec/training.md#1-5
    ("a2m", ("audio2motion",)): {0: (1e-7,), 500: (2.5e-4,), 1000: (5e-4,), 250_000: (5e-5,), 10**6: (1e-6,)},
}


@pytest.mark.parametrize("stage, groups", RATES)
def test_every_group_has_its_rate(face: object, stage: str, groups: tuple[str, ...]) -> None:
    rates = {group.name: group.rate for spec in optimisers(stage).values() for group in spec.groups}
    assert rates.keys() == set(groups)
    for step, expected in RATES[stage, groups].items():
        assert [rates[name](step, 0.3) for name in groups] == pytest.approx(list(expected), rel=1e-9, abs=1e-15), step


TRAINED = {  # docs/spec/training.md#1-3; the steps have no loss at an interval, so no auto-tuned weight moves
    0: {"image_to_plane"},
    6000: {"image_to_plane", "motion_adapter"},
    6001: {"image_to_plane", "motion_adapter", "renderer"},
    30_001: {"image_to_plane", "motion_adapter", "renderer", "superresolution"},
    70_000: {"motion_adapter", "renderer", "superresolution"},
    190_001: {"motion_adapter", "renderer", "superresolution", "discriminator"},
    200_000: {"superresolution", "discriminator"},
    249_998: {"superresolution", "discriminator"},
}


@pytest.mark.parametrize("ablation", ["", "no_finetuning"])
def test_stage_two_trains_what_its_schedule_says_and_the_rest_is_fixed(ablation: str) -> None:
    """Parameters and buffers of all modules, and the modes of those that the schedule fixes."""
    task = small("motion_adapter", f"ablations/{ablation}" if ablation else "motion_adapter")
    take_step, generator = Steps(task), torch.Generator().manual_seed(0)
    for step, expected in TRAINED.items():
        expected = expected - {"image_to_plane"} if ablation else expected
        before = deepcopy(task.modules)
        take_step(pair_batch(generator), step)
        assert changed_parts(before, task.modules) == expected, step
        modes = {name for name, module in task.modules.items() if module.training}
        assert modes == expected | {"discriminator"}, step


def test_the_reference_view_is_rare_at_first() -> None:
    """docs/spec/training.md#1-2: every 5th step, from 30 000 every 2nd, from 35 000 always."""
    runs = [step for step in range(40_000) if reference_runs(step, I2P["start_adversarial"])]
    assert [step for step in runs if step < 29_999] == list(range(4, 29_999, 5))
    assert [step for step in runs if 29_999 <= step < 35_000] == list(range(29_999, 35_000, 2))
    assert [step for step in runs if step >= 35_000] == list(range(35_000, 40_000))


def ones(*tensors: Tensor) -> Tensor:
    """1, with a graph."""
    return 1 + 0 * sum(tensor.sum() for tensor in tensors)


@pytest.fixture
def unit_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adversary, gradient penalty and lazy terms are 1, so that the losses are their weights."""
    monkeypatch.setattr(Adversary, "generator_loss", lambda self, view, generator: ones(view.image, view.image_raw))
    monkeypatch.setattr(adversary, "gradient_penalty", lambda logits, images: ones(logits))
    monkeypatch.setattr("modules.losses.image.density_l1", ones)
    monkeypatch.setattr(motion_adapter, "PLANE_LAPLACIANS", {"norm": ones, "mean": ones})
    monkeypatch.setattr("modules.losses.image.laplacian_l1", lambda *planes: 0.3 * ones(*planes))  # the target


def weights_at(stage: str, batch: Callable[[torch.Generator], dict[str, Tensor]]) -> Callable[[int], dict[str, float]]:
    """Step -> the losses of one step of the engine."""
    take_step, generator = Steps(small(stage)), torch.Generator().manual_seed(0)
    return lambda step: take_step(batch(generator), step)


def only(losses: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: losses[name] for name in names if name in losses}


def test_weights_of_stage_one_in_the_step(unit_losses: None) -> None:
    at = weights_at("i2p", view_batch)
    names = (
        "reference_adversarial",
        "target_adversarial",
        "target_density",
        "gradient_penalty_0",
        "gradient_penalty_1",
    )
    assert only(at(2), *names) == {}
    assert only(at(3), *names) == {"target_density": 0.25}  # not times 4
    assert only(at(15), *names) == {"target_density": 0.25, "gradient_penalty_0": 80.0, "gradient_penalty_1": 80.0}
    assert only(at(29_998), *names) == {}
    late = {"reference_adversarial": 0.1, "target_adversarial": 0.025}
    assert only(at(30_001), *names) == pytest.approx(late)
    assert {"fake_0", "real_0", "real_1"} <= at(0).keys()  # the discriminator learns from step 0 on


def test_weights_of_stage_two_in_the_step(unit_losses: None) -> None:
    at = weights_at("motion_adapter", pair_batch)
    names = ("density", "laplacian", "eye_closing", "adversarial", "gradient_penalty_0", "gradient_penalty_1")
    lazy = {"density": 0.25 * 4, "laplacian": 1e-7 * 4, "eye_closing": 0.001 * 0.3 * 4}
    assert only(at(2), *names) == {}
    assert only(at(3), *names) == pytest.approx(lazy)
    assert [step for step in (1, 15, 16, 17, 32) if "source_image" in at(step)] == [16, 32]
    assert [step for step in (189_998, 189_999, 190_000, 190_001) if "fake_0" in at(step)] == [190_000, 190_001]
    assert only(at(190_015), *names) == pytest.approx(lazy | {"gradient_penalty_0": 80.0, "gradient_penalty_1": 80.0})
    assert [only(at(step), "adversarial") for step in (199_998, 200_000)] == [{}, pytest.approx({"adversarial": 0.002})]


def test_weights_of_stage_three_in_the_step(unit_losses: None) -> None:
    at = weights_at("htbsr", pair_batch)
    assert [step for step in (1, 3, 4, 5, 8) if "source_image" in at(step)] == [4, 8]
    assert [step for step in (29_999, 30_000) if "fake_0" in at(step)] == [30_000]
    assert only(at(30_015), "gradient_penalty_0", "gradient_penalty_1") == {"gradient_penalty_0": 80.0}
    assert [only(at(step), "adversarial") for step in (39_999, 40_000)] == [{}, pytest.approx({"adversarial": 0.001})]


def test_numbers_that_are_no_keys() -> None:
    assert adversary.R1_EVERY == 16  # docs/spec/training.md#1-1
    assert motion_adapter.OUTSIDE == 0.2 and htbsr.OUTSIDE == 0.5  # docs/spec/training.md#2-1
    assert motion_adapter.TUNED == {"perturbation": 0.2, "eye_closing": 2.0}  # docs/spec/training.md#2-7
    assert syncnet.SHARES == (0.4, 0.3, 0.2, 0.1)  # docs/spec/training.md#4-5
    assert syncnet.SHIFTS == ((0, 0), (2, 5), (5, 10), (-10, 10))
