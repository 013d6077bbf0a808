import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tasks.engine.step import NotFiniteError
from tasks.engine.task import StepState
from tests.tasks.steps import Steps
from tests.tasks.toy import Points, Toy, ToyConfig

STILL = ToyConfig(noise=0.0, dropout=0.0)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return batch_of(range(4))


def batch_of(items: range) -> dict[str, Tensor]:
    points = [Points(50)[i] for i in items]
    return {name: torch.stack([point[name] for point in points]) for name in points[0]}


def toy(config: ToyConfig = STILL) -> Toy:
    return Toy(config, torch.Generator().manual_seed(0))


def weights(task: Toy) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.detach().clone()
        for part, module in task.modules.items()
        for name, value in module.named_parameters()
    }


def moved(task: Toy, before: Mapping[str, Tensor]) -> set[str]:
    """Layers whose weights differ, such as generator.0."""
    return {name.rpartition(".")[0] for name, value in weights(task).items() if not torch.equal(value, before[name])}


def test_the_first_step_of_adam_is_the_rate_and_progress_lowers_it(batch: dict[str, Tensor]) -> None:
    task, other = toy(), toy()
    before, after = weights(task), weights(other)
    Steps(task)(batch, step=0)
    Steps(other)(batch, step=0, progress=0.75)  # the last layers follow it
    first, last = "generator.0.weight", "generator.3.weight"
    assert (weights(task)[first] - before[first]).abs().max() == pytest.approx(0.01, rel=1e-3)
    assert (weights(task)[last] - before[last]).abs().max() == pytest.approx(0.01, rel=1e-3)
    assert (weights(other)[last] - after[last]).abs().max() == pytest.approx(0.0025, rel=1e-3)


def test_each_optimiser_changes_its_own_groups_when_its_turn_comes(batch: dict[str, Tensor]) -> None:
    task = toy(replace(STILL, freeze_until=3))
    take_step, before = Steps(task), weights(task)
    assert take_step(batch, step=0).keys() == {"fit", "adversarial"}
    assert moved(task, before) == {"generator.3", "generator.4"}  # the first layer has the rate 0
    before = weights(task)
    assert take_step(batch, step=5).keys() == {"fit", "adversarial", "discriminator", "r1"}
    assert moved(task, before) == {"generator.0", "generator.3", "generator.4", "discriminator.0", "discriminator.2"}


def test_only_the_groups_at_work_have_gradients(batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = {}
    step = Toy.training_step

    def watched(task: Toy, batch: dict, at: int, optimizer: str, state: object) -> dict[str, Tensor]:
        enabled[optimizer] = {
            name.rpartition(".")[0]
            for part, module in task.modules.items()
            for name, p in ((f"{part}.{n}", p) for n, p in module.named_parameters())
            if p.requires_grad
        }
        return step(task, batch, at, optimizer, state)

    monkeypatch.setattr(Toy, "training_step", watched)
    task = toy(replace(STILL, freeze_until=100))
    Steps(task)(batch, step=5)
    assert enabled == {
        "generator": {"generator.3", "generator.4"},
        "discriminator": {"discriminator.0", "discriminator.2"},
    }
    assert all(p.grad is None for module in task.modules.values() for p in module.parameters())


def test_a_module_whose_rates_are_0_is_in_eval_mode(batch: dict[str, Tensor]) -> None:
    task = toy(replace(STILL, freeze_until=100))
    take_step, generator = Steps(task), task.modules["generator"]
    modes = []
    for progress in (0.0, 1.0, 0.5):  # the rate of the last layers falls to 0
        take_step(batch, step=0, progress=progress)
        modes.append((generator.training, generator[2].training, task.modules["discriminator"].training))
    assert modes == [(True, True, True), (False, False, True), (True, True, True)]
    assert not task.modules["scale"].training  # in no optimiser


def test_gradients_are_clipped_to_a_norm_over_all_groups_of_an_optimiser(batch: dict[str, Tensor]) -> None:
    norms = {}
    for clip in (0.0, 1e-3):
        task = toy()
        take_step = Steps(task, clip=clip)
        take_step(batch, step=0)
        moments = [state["exp_avg"] for state in take_step.stepper.optimizers["generator"].state.values()]
        assert len(moments) == 5
        norms[clip] = 10 * math.sqrt(sum(float(m.square().sum()) for m in moments))  # (1 - 0.9) of the gradient
    assert norms[0.0] > 0.1 and norms[1e-3] == pytest.approx(1e-3, rel=1e-4)


def test_several_batches_count_as_one(batch: dict[str, Tensor]) -> None:
    one, two = toy(), toy()
    Steps(one)(batch, step=0)
    Steps(two).stepper.step([batch_of(range(2)), batch_of(range(2, 4))], 0, 0.0)
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-6)


def test_averages_follow_the_weights_and_are_of_what_is_trained(batch: dict[str, Tensor]) -> None:
    task = toy()
    take_step, before = Steps(task, ema=0.9), weights(task)
    take_step(batch, step=0)  # the decay of step 0 is 1 / 10
    ema = take_step.stepper.ema
    expected = 0.1 * before["generator.0.weight"] + 0.9 * weights(task)["generator.0.weight"]
    torch.testing.assert_close(ema.state("generator")["0.weight"], expected)
    assert ema.modules.keys() == {"generator", "discriminator"}  # nothing trains `scale`
    assert Steps(toy()).stepper.ema is None


def test_a_step_is_a_function_of_the_seed_and_its_number(batch: dict[str, Tensor]) -> None:
    noisy = ToyConfig()

    def after(step: int, seed: int = 0) -> Tensor:
        task = toy(noisy)
        torch.rand(7)  # what was drawn before does not matter
        Steps(task, seed=seed)(batch, step)
        return weights(task)["generator.0.weight"]

    assert torch.equal(after(3), after(3))
    assert not torch.equal(after(3), after(4)) and not torch.equal(after(3), after(3, seed=1))


def test_what_is_not_a_number_never_reaches_the_weights(batch: dict[str, Tensor]) -> None:
    task = toy(replace(STILL, nan_at=2))
    take_step, before = Steps(task), weights(task)
    with pytest.raises(NotFiniteError, match="^broken is not finite$") as caught:
        take_step(batch, step=2)
    assert moved(task, before) == set()
    assert caught.value.optimizer == "generator" and caught.value.bad == ["broken"]
    assert caught.value.batch is not None and caught.value.values.keys() == {"fit", "adversarial", "broken"}


def test_frozen_helpers_are_in_eval_mode_and_take_no_gradients(batch: dict[str, Tensor]) -> None:
    """A perceptual network or the expert of lip-sync: gradients go through it, not into it."""
    task = toy()
    helper = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    task.frozen = {"helper": helper}
    before = {name: value.clone() for name, value in helper.state_dict().items()}
    own = task.training_step

    def with_helper(batch: Mapping[str, Tensor], step: int, name: str, state: StepState) -> dict[str, Tensor]:
        return own(batch, step, name, state) | {f"helped_{name}": helper(task.generator(batch["x"]) * batch["x"]).sum()}

    task.training_step = with_helper
    Steps(task)(batch, step=0)
    assert not any(module.training for module in helper.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in helper.parameters())
    for name, value in helper.state_dict().items():  # the statistics of the batch norm, too
        assert torch.equal(value, before[name]), name


def test_a_pass_that_rests_is_taken_by_every_accumulated_batch() -> None:
    """What a task counts in it is the same however many batches a step has."""
    task, seen = toy(), []
    own = task.training_step

    def counting(batch: Mapping[str, Tensor], step: int, name: str, state: StepState) -> dict[str, Tensor]:
        seen.append((step, name))
        return own(batch, step, name, state)

    task.training_step = counting
    Steps(task).stepper.step([batch_of(range(4)), batch_of(range(4, 8)), batch_of(range(8, 12))], 11, 0.0)
    assert seen.count((11, "discriminator")) == 3  # 11 % 8 is 3: it rests
    assert seen.count((11, "generator")) == 3


def test_accumulated_batches_draw_numbers_of_their_own() -> None:
    task, drawn = toy(), []
    own = task.training_step

    def drawing(batch: Mapping[str, Tensor], step: int, name: str, state: StepState) -> dict[str, Tensor]:
        drawn.append(float(torch.rand((), generator=state.generator)))
        return own(batch, step, name, state)

    task.training_step = drawing
    Steps(task).stepper.step([batch_of(range(4)), batch_of(range(4))], 1, 0.0)
    assert len(drawn) == len(set(drawn)) == 2
