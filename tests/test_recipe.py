"""The recipe of the paper: every number of the full configs beside its source.

A number is changed here and in the YAML together, and the source says why. `ours` marks what the original does not say.
The demo, which is not in the paper, has its own section. tests/test_recipe_steps.py asks the same of the steps.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modules.audio.audio2motion import Audio2MotionConfig
from modules.audio.syncnet import SyncNetConfig
from modules.portrait.config import Real3DPortraitConfig
from modules.system.config import load_yaml
from tasks.engine.settings import read_settings
from tests.conftest import ROOT

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

# Keys that are no number of the recipe: names, paths, hardware, stores, logs; sizes of the models, which have a test
# below; the procedural teacher, which the full stage 1 does not use.
NO_RECIPE = re.compile(
    r"task|strategy|threads|init_from|sync_checkpoint|(.*\.)?(folder|face_model|snapshot|whisper)"
    r"|(model|loader|log|checkpoint|views)\..*|(data|eg3d)\.store\..*|data\.pncc"
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
