"""The recipe of the paper: every number of the full configs beside its source, and the steps that the engine takes.

A number is changed here and in the YAML together, and the source says why. `ours` marks what the original does not say.
The demo, which is not in the paper, has its own section.
"""

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.audio.audio2motion import Audio2MotionConfig
from modules.audio.syncnet import SyncNetConfig
from modules.portrait.config import Real3DPortraitConfig
from modules.system.config import load_yaml
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

__all__ = ["face"]  # a fixture

ALL_STAGES = {
    "precision": "auto",  # ours: bf16-mixed on a GPU, with cameras and PNCCs in float32
    "accumulate": 1,  # docs/spec/training.md#1-1, one batch for an optimiser step
    "clip": 1.0,  # docs/spec/training.md#1-1, #1-5
}
IMAGE_STAGES = ALL_STAGES | {
    "seed": 999,  # docs/spec/training.md#6
    "ema": 0.0,  # docs/spec/training.md#1-1
    "adversary.gradient_penalty": 5.0,  # docs/spec/training.md#6, lambda_gradient_penalty
    "adversary.discriminator.resolution": 512,  # docs/spec/sr_torso_eg3d.md#9
    "adversary.discriminator.base_channels": 32768,
    "adversary.discriminator.max_channels": 512,
    "adversary.discriminator.camera_dim": 25,
    "adversary.discriminator.mapping_layers": 8,
    "adversary.discriminator.clamp": 256.0,
    "adversary.discriminator.group_size": 2,  # docs/spec/training.md#1-1
    "adversary.discriminator.pose_noise": 1.0,  # docs/spec/training.md#1-1
    "learning_rates.schedule": "step",  # docs/spec/training.md#1-1
    "learning_rates.warmup": 4000,  # docs/spec/training.md#1-1
    "learning_rates.discriminator": 2e-4,  # docs/spec/training.md#1-1
    "learning_rates.beta1": 0.0,  # docs/spec/training.md#1-1
}
SPLIT = {
    "data.split.validation": 0.01,  # docs/spec/training.md#4-1, but of people, not of clips
    "data.split.test": 0.01,  # ours
}
CLIPS = SPLIT | {
    "data.pncc_size": 512,  # docs/spec/training.md#4-3
    "data.seed": 999,  # docs/spec/training.md#6
    "data.pairs_per_clip": 1000,  # ours: the length of an epoch
}
I2P = IMAGE_STAGES | {
    "steps": 500_000,  # docs/spec/training.md#1-1: stopped by hand
    "teacher": "eg3d",  # docs/spec/training.md#1-2
    "eg3d.truncation": 0.7,  # docs/spec/training.md#1-2
    "eg3d.seed": 999,  # docs/spec/training.md#6
    "eg3d.pose_clips": "data/celebv_hq",  # docs/spec/sr_torso_eg3d.md#10-3; the paper's data set
    "eg3d.discriminator": "snapshot",  # docs/spec/training.md#1-2
    "image_error": "l1",  # docs/spec/training.md#1-2
    "initial_weights": "imagenet",  # docs/spec/head.md
    "loss.image": 1.0,  # docs/spec/training.md#1-2
    "loss.image_raw": 1.0,
    "loss.perceptual": 0.1,
    "loss.perceptual_raw": 0.1,
    "loss.adversarial_reference": 0.1,
    "loss.adversarial_target": 0.025,
    "loss.density": 0.25,
    "density_every": 4,
    "density_step": 0.005,  # docs/spec/training.md#2-6
    "learning_rates.generator": 1e-4,  # docs/spec/training.md#1-2
    "learning_rates.constant_discriminator": True,
    "learning_rates.decay": 0.95,
    "learning_rates.decay_interval": 5000,
    "learning_rates.floor": 1e-5,
    "unfreeze.renderer": 2000,
    "unfreeze.superresolution": 30_000,
    "start_adversarial": 30_000,
    "held_out_people": 8,  # ours
}
MOTION_ADAPTER = (
    IMAGE_STAGES
    | CLIPS
    | {
        "steps": 250_000,  # docs/spec/training.md#1-1
        "initial_weights": "imagenet",  # docs/spec/training.md#1-3
        "data.eye_closing": True,  # docs/spec/training.md#2-8
        "loss.image": 1.0,  # docs/spec/training.md#1-3
        "loss.image_raw": 1.0,
        "loss.perceptual": 0.1,
        "loss.perceptual_raw": 0.1,
        "loss.lips": 0.5,
        "loss.lips_perceptual": 0.05,
        "loss.mask": 0.1,
        "loss.entropy": 0.01,
        "loss.adversarial": 0.002,
        "loss.density": 0.25,
        "density_every": 4,
        "density_step": 0.005,  # docs/spec/training.md#2-6
        "loss.laplacian": 1e-7,  # ours; the paper names no weight, docs/spec/training.md#2-7
        "laplacian": "norm",  # docs/spec/training.md#2-7, the paper's
        "laplacian_every": 4,  # docs/spec/training.md#1-3
        "loss_targets.eye_closing": 0.3,  # docs/spec/training.md#2-7, target of the loss
        "learning_rates.generator": 1e-4,  # docs/spec/training.md#1-3
        "learning_rates.image_to_plane": 1e-4,
        "learning_rates.decay": 0.95,
        "learning_rates.decay_interval": 5000,
        "learning_rates.floor": 5e-6,
        "unfreeze.motion_adapter": 1,  # if s > 0
        "unfreeze.renderer": 6001,  # if s > 6000
        "unfreeze.superresolution": 30_001,  # if s > 30 000
        "image_to_plane_rise": 220_000,  # start_adv_iters + 20 000
        "freeze_image_to_plane_at": 70_000,
        "superresolution_alone_from": 200_000,  # two_stage_training
        "start_adversarial": 200_000,
        "discriminator_lead": 10_000,
        "self_reenactment_every": 16,
    }
)
HTBSR = (
    IMAGE_STAGES
    | CLIPS
    | {
        "steps": 100_000,  # docs/spec/training.md#1-1
        "targets": "composed",  # docs/spec/training.md#4-3, `com`
        "background": "inpainted",  # docs/spec/training.md#1-4
        "data.torso": True,
        "loss.image": 1.0,
        "loss.perceptual": 0.1,
        "loss.lips": 0.2,
        "loss.lips_perceptual": 0.02,
        "loss.adversarial": 0.001,
        "loss.occlusion_entropy": 0.001,
        "learning_rates.generator": 1e-5,
        "learning_rates.decay": 0.5,
        "learning_rates.decay_interval": 50_000,
        "learning_rates.floor": 1e-6,
        "start_adversarial": 40_000,
        "discriminator_lead": 10_000,
        "self_reenactment_every": 4,
    }
)
SPEECH = (ALL_STAGES | SPLIT) | {
    "precision": "32-true",  # docs/spec/training.md#1-1: `amp` is for no stage
    "features": "hubert",  # docs/spec/training.md#6
    "ema": 0.999,  # ours; the original has none
    "steps": 400_000,  # docs/spec/training.md#1-1; the lip-sync expert was stopped by hand
    "learning_rates.beta1": 0.9,  # docs/spec/training.md#1-5, #1-6
    "data.min_frames": 32,  # ours
    "data.seconds": 4.16,  # of the procedural world
    "data.utterances": 100_000,
    "data.augment.tempo": 0.1,  # ours; of no effect, as there are no variants
    "data.augment.semitones": 3.0,
    "data.augment.formants": 0.1,
    "data.seed": 9999,
}
SYNCNET = SPEECH | {
    "data.max_clips": 32,  # ours; the released loader has batches of one clip
    "data.max_tokens": 12_800,
    "pairs": 8192,  # docs/spec/training.md#1-6
    "learning_rates.schedule": "step",
    "learning_rates.generator": 1e-3,
    "learning_rates.decay": 0.98,
    "learning_rates.decay_interval": 5000,
    "learning_rates.floor": 5e-5,
}
A2M_STAGE = SPEECH | {
    "pitch": "praat",  # docs/spec/audio2motion.md#6-4
    "data.max_clips": 512,  # docs/spec/training.md#4-4
    "data.max_tokens": 20_000,
    "loss.kl": 0.02,  # docs/spec/training.md#1-5
    "loss.kl_rise": 2000,
    "loss.kl_hold": 2000,
    "loss.expression": 0.5,
    "loss.landmarks": 0.5,
    "loss.laplacian": 1.0,
    "loss.laplacian_ends": "free",  # docs/spec/training.md#10: not as the original
    "loss.magnitude": 0.1,
    "loss.sync": 0.2,
    "loss.sync_pairs": 8096,  # docs/spec/training.md#2-11
    "learning_rates.schedule": "exponential",  # docs/spec/training.md#1-5
    "learning_rates.generator": 5e-4,
    "learning_rates.warmup": 1000,
    "learning_rates.decay": 0.1,
    "learning_rates.decay_interval": 250_000,
    "learning_rates.floor": 1e-6,
}
RECIPE = {"i2p": I2P, "motion_adapter": MOTION_ADAPTER, "htbsr": HTBSR, "syncnet": SYNCNET, "a2m": A2M_STAGE}

# Keys that are no number of the recipe: names, paths, hardware, logs; sizes of the models, which have a test below; the
# procedural teacher, which the full stage 1 does not use.
NO_RECIPE = re.compile(
    r"task|strategy|threads|init_from|sync_checkpoint|(.*\.)?(folder|face_model|snapshot|whisper)"
    r"|(model|loader|log|checkpoint|views)\..*"
)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return leaves


@pytest.mark.parametrize("stage", RECIPE)
def test_the_full_config_holds_the_recipe(stage: str) -> None:
    resolved = flat(read_settings(ROOT / f"configs/{stage}.yaml").resolved)
    numbers = {key: value for key, value in resolved.items() if not NO_RECIPE.fullmatch(key)}
    named = {key: numbers.get(key, "missing") for key in RECIPE[stage]}
    assert named == RECIPE[stage]
    rest = {key: value for key, value in numbers.items() if key not in named and value}  # 0, none, false: off
    assert rest == {}, "in the config and not in the recipe"


@pytest.mark.parametrize("stage", RECIPE)
def test_what_the_recipe_trains_stands_in_the_yaml(stage: str) -> None:
    """The YAML is the table that people read: no weight or rate comes from a default."""
    written = flat(load_yaml(ROOT / f"configs/{stage}.yaml"))
    groups = ("loss.", "learning_rates.", "unfreeze.")
    hidden = {key for key in RECIPE[stage] if key.startswith(groups) and key not in written}
    assert hidden <= {"density_step", "loss.laplacian_ends", "loss.sync_pairs"}


def test_the_base_holds_only_what_nobody_overrides() -> None:
    base = flat(load_yaml(ROOT / "configs/base.yaml"))
    for path in (ROOT / "configs").rglob("*.yaml"):
        values = load_yaml(path)
        if path.name != "base.yaml" and "task" in values:
            sources = {key: values.sources[key] for key in base}
            assert {source for source in sources.values() if not source.endswith("/base.yaml")} == set(), path


MODELS: dict[str, tuple[type, tuple[int, ...]]] = {  # config of the model, number of the stage
    "i2p": (Real3DPortraitConfig, (1,)),
    "motion_adapter": (Real3DPortraitConfig, (2,)),
    "htbsr": (Real3DPortraitConfig, (3,)),
    "syncnet": (SyncNetConfig, ()),
    "a2m": (Audio2MotionConfig, ()),
}


@pytest.mark.parametrize("stage", MODELS)
def test_models_have_the_released_sizes(stage: str) -> None:
    size, number = MODELS[stage]
    model = read_settings(ROOT / f"configs/{stage}.yaml").task_config.model
    if stage == "a2m":  # `nearest` of the released weights reads every second frame
        assert model.downsample == "average"
        model = replace(model, downsample="nearest")
    if stage == "i2p":
        assert model.renderer.least_plane_scale == 0.5  # docs/spec/training.md#6, min_rescale_factor; no size
        model = replace(model, renderer=replace(model.renderer, least_plane_scale=1.0))
    assert model == size.full(*number)


# ---- the demo


@pytest.mark.parametrize("stage", MODELS)
def test_the_demo_trains_the_demo_sizes_and_needs_no_outside_file(stage: str) -> None:
    settings = read_settings(ROOT / f"configs/demo/{stage}.yaml")
    config, (size, number) = settings.task_config, MODELS[stage]
    assert settings.task.name.removesuffix("_patches") == stage and config.model == size.demo(*number)
    if stage in ("syncnet", "a2m"):
        assert (config.features, config.face_model, config.data.folder) == (
            "whisper",
            "procedural",
            "data/speech/train",
        )
        return
    assert not any(weight > 0 and "perceptual" in loss for loss, weight in config.loss.items())
    assert config.model.driving.face_model == "procedural"
    assert getattr(config, "teacher", "procedural") == "procedural"
    assert getattr(config, "initial_weights", "none") == "none"


def test_the_image_stages_of_the_demo_take_less_than_fifty_minutes() -> None:
    assert (
        sum(
            load_yaml(ROOT / f"configs/demo/{stage}.yaml")["max_minutes"]
            for stage in ("i2p", "motion_adapter", "htbsr")
        )
        <= 50
    )


# ---- the steps that the engine takes, with tiny models and without outside files


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
