"""`accumulate` batches count as one that is as many times as large, in every stage and for every optimiser.

What couples the samples of a batch is switched off here, as docs/architecture.md lists it: batch statistics and power
iterations (eval mode), groups of the discriminator, random numbers (the same for all samples).
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modules.audio.audio2motion import Audio2Motion
from modules.face3d.morphable_model import MorphableModel
from modules.layers.segformer import StochasticDepth
from modules.losses import image as losses
from modules.portrait.htbsr.blocks import SpectralConv
from modules.rendering.renderer import RayNoise
from tasks.engine.step import Stepper
from tasks.engine.task import Task
from tasks.stages import syncnet
from tasks.stages.syncnet import SyncPairs
from tests.tasks.conftest import face
from tests.tasks.double import as_float64, double_stepper, float64
from tests.tasks.small_stages import STAGES, Batch, motion_adapter, seeded, small_stage, turned_pairs

__all__ = ["face"]  # a fixture

STEPS = (31, 32)  # with and without the reference view, self-reenactment, penalty and losses at intervals
COUPLED = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, StochasticDepth, SpectralConv)


@pytest.fixture
def equal_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample gets the same random numbers, whatever batch it is in."""
    points = losses.density_points
    monkeypatch.setattr("tasks.engine.step.derived_seed", lambda *numbers: 0)
    monkeypatch.setattr(
        RayNoise, "draw", lambda config, batch, rays, generator, device: RayNoise.centred(config, device)
    )
    monkeypatch.setattr(
        losses,
        "density_points",
        lambda batch, *rest: tuple(p.expand(batch, -1, -1) for p in points(1, *rest)),
    )
    monkeypatch.setattr(
        Audio2Motion,
        "noise",
        lambda self, batch, frames, generator: torch.ones(batch, self.config.latent_size, frames // 8),
    )
    monkeypatch.setattr(syncnet, "sample_pairs", pairs_of_each_clip)


def pairs_of_each_clip(lengths: Tensor, count: int, generator: torch.Generator) -> SyncPairs:
    clip = torch.arange(len(lengths)).repeat_interleave(4)
    shift = torch.tensor([0, 3, -2, 0]).repeat(len(lengths))
    return SyncPairs(clip, clip, 5 + clip.new_tensor([0, 1, 2, 9]).repeat(len(lengths)), shift, (shift == 0).float())


def uncoupled(stage: str, folder: Path) -> tuple[Task, Batch]:
    task, batch = small_stage(stage, folder)
    adversary = getattr(task, "adversary", None)
    if adversary is not None:
        judge = adversary.discriminator
        judge.config, judge.b4.group_size = replace(judge.config, pose_noise=0.0), 1
    if stage == "motion_adapter":  # its weight adapts to the first batch alone, see `TunedWeight`
        del task.modules["eye_closing_weight"]
    if stage == "a2m":
        task.config = replace(task.config, loss=replace(task.config.loss, sync_pairs=1))  # one window for all
    return task, batch


def after_steps(stage: str, folder: Path, parts: int) -> tuple[Stepper, dict[str, float]]:
    """The state after `STEPS`, and the passes that were seen to change weights, with their mean gradient norms."""
    task, batch = uncoupled(stage, folder)
    with float64():
        stepper = double_stepper(task)
        for module in stepper.module.modules():
            if isinstance(module, COUPLED):
                module.eval().train = lambda mode=True, module=module: module  # for good
        size = len(next(iter(batch.values()))) // parts
        batches = [as_float64({k: v[i * size : (i + 1) * size] for k, v in batch.items()}) for i in range(parts)]
        for step in STEPS:
            stepper.step(batches, step, 0.0)
            left = [p for module in task.modules.values() for p in module.parameters() if p.grad is not None]
            assert not left, "gradients leak into the next step"
    kind, read = "gradient_norm/", stepper.means.read()
    norms = {name.removeprefix(kind): float(value) for name, value in read.items() if name.startswith(kind)}
    return stepper, norms


@pytest.mark.parametrize("stage", STAGES)
def test_several_batches_are_one_large_one(stage: str, face: MorphableModel, equal_draws: None, tmp_path: Path) -> None:
    (one, passes), (several, others) = (after_steps(stage, tmp_path / str(parts), parts) for parts in (1, 2))
    assert passes.keys() == set(one.order)
    assert others == pytest.approx(passes, rel=1e-5)  # Adam would hide a factor
    for name, module in one.task.modules.items():
        expected = dict(module.named_parameters())
        for key, parameter in several.task.modules[name].named_parameters():
            torch.testing.assert_close(
                parameter, expected[key], rtol=1e-7, atol=1e-9, msg=lambda m, n=name, k=key: f"{n}.{k}: {m}"
            )
    for name, optimizer in one.optimizers.items():
        steps = [
            {float(state["step"]) for state in o.optimizer.state.values()}
            for o in (optimizer, several.optimizers[name])
        ]
        assert steps[0] == steps[1]


def test_an_auto_tuned_weight_moves_once_a_step() -> None:
    """By the mean of the losses, so a step of four batches moves it no farther than a step of one."""
    values = []
    for parts in (1, 4):
        task, batch = motion_adapter(), turned_pairs(seeded())
        stepper = double_stepper_in_float64(task)
        with float64():
            batches = [as_float64({k: v[i::parts] for k, v in batch.items()}) for i in range(parts)]
            stepper.step(batches, 3, 0.0)
        values.append(float(task.modules["eye_closing_weight"].value))
    assert values[0] > 0.02 and values[1] == pytest.approx(values[0], rel=0.02)


def double_stepper_in_float64(task: Task) -> Stepper:
    with float64():
        return double_stepper(task)
