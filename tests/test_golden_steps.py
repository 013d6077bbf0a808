"""Golden training steps: losses, gradient norms and updated weights of every stage, so that none changes unseen.

    python -m pytest tests/test_golden_steps.py --write-golden-steps      # after a change that is meant; say so

The numbers are our own, of the small stages of tests/tasks/small_stages.py in float64 on a CPU, in
tests/golden_steps. First weights are drawn by NumPy, whose numbers are the same everywhere; dropout, whose are not, is
off.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.face3d.morphable_model import MorphableModel
from modules.layers.segformer import StochasticDepth
from tasks.engine.registry import find_task
from tasks.engine.task import Task
from tests.conftest import ROOT
from tests.tasks.conftest import face
from tests.tasks.double import as_float64, double_stepper, float64
from tests.tasks.small_stages import STAGES, Batch, small_stage

__all__ = ["face"]  # a fixture

FOLDER = ROOT / "tests/golden_steps"
STEPS = (31, 32)  # with the penalty, all losses at intervals and the reference view; with self-reenactment
RANDOM_LAYERS = (nn.modules.dropout._DropoutNd, StochasticDepth)
RANDOM_BUFFERS = ("weight_u", "weight_v", "noise_const", "_basis")
MIDDLES = {"translation": [0.3, 0.2, -5.0], "f0": 120.0, "mouth_amplitude": 0.5, "eye_amplitude": 0.5}
Numbers = dict[str, float]


def redraw(tensor: Tensor, random: np.random.Generator) -> None:
    """Other random numbers of about the same size; what is constant stays as it is."""
    if tensor.is_floating_point() and tensor.numel() > 1 and tensor.min() != tensor.max():
        size = 2.0 ** round(math.log2(float(tensor.double().std())))
        tensor.copy_(torch.from_numpy(random.uniform(-math.sqrt(3) * size, math.sqrt(3) * size, tuple(tensor.shape))))


@torch.no_grad()
def redraw_all(task: Task, batch: Batch) -> None:
    random = np.random.default_rng(0)
    for module in (*task.modules.values(), *task.frozen.values()):
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, nn.Parameter) or name.endswith(RANDOM_BUFFERS):
                redraw(tensor, random)
    for name, value in batch.items():
        if name in ("audio", "identity", "expression", "euler"):
            redraw(value, random)
        elif name in MIDDLES:  # positive, or far away
            middle = torch.tensor(MIDDLES[name])
            value.copy_(middle * torch.from_numpy(random.uniform(0.9, 1.1, tuple(value.shape))))


def moved(module: nn.Module, before: dict[str, Tensor]) -> tuple[float, float]:
    """How far the weights and buffers of a module moved, and where to: a projection on fixed numbers."""
    names = [name for name, value in before.items() if value.is_floating_point()]
    state = module.state_dict()
    change = torch.cat([(state[name] - before[name]).flatten() for name in names] or [torch.zeros(1)])
    return float(change.norm()), float(change @ torch.cos(torch.arange(len(change), dtype=change.dtype)))


def numbers_of(stage: str, folder: Path) -> Numbers:
    task, batch = small_stage(stage, folder)
    numbers: Numbers = {}
    with float64():
        stepper = double_stepper(task)
        redraw_all(task, batch)
        for layer in stepper.module.modules():
            if isinstance(layer, RANDOM_LAYERS):
                layer.eval()
        for step in STEPS:
            before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in task.modules.items()}
            stepper.step([as_float64(batch)], step, 0.0)
            for name, value in stepper.means.read().items():
                numbers[f"{step}/{name}"] = float(value)
            for name, module in task.modules.items():
                numbers[f"{step}/moved/{name}"], numbers[f"{step}/projected/{name}"] = moved(module, before[name])
    return numbers


@pytest.mark.parametrize("stage", STAGES)
def test_a_training_step_is_that_of_the_record(
    stage: str, face: MorphableModel, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, numbers = FOLDER / f"{stage}.json", numbers_of(stage, tmp_path)
    if request.config.getoption("--write-golden-steps"):
        path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        pytest.skip(f"wrote {path}")
    expected = json.loads(path.read_text(encoding="utf-8"))
    assert numbers.keys() == expected.keys()
    wrong = {
        name: (numbers[name], value)
        for name, value in expected.items()
        if not math.isclose(numbers[name], value, rel_tol=1e-6, abs_tol=1e-9)
    }
    assert wrong == {}, "now, in the record; a change that is meant is recorded as the head of this file says"


@pytest.mark.parametrize("stage", STAGES)
def test_each_loss_of_the_record_has_its_value_without_weight_and_a_meaning(stage: str) -> None:
    numbers, task = json.loads((FOLDER / f"{stage}.json").read_text(encoding="utf-8")), find_task(stage)
    weighted, plain = (
        {name.replace(group, ""): value for name, value in numbers.items() if f"/{group}/" in name}
        for group in ("loss", "unweighted")
    )
    assert weighted.keys() == plain.keys()
    assert all(value == 0 or plain[name] / value > 0 for name, value in weighted.items())
    penalties = {plain[name] / value for name, value in weighted.items() if "gradient_penalty" in name}
    assert all(math.isclose(ratio, 1 / (5 * 16)) for ratio in penalties)
    meanings = {**task.logged, **{name: term.meaning for name, term in task.terms.items()}}
    assert all(len(meaning) > 10 for meaning in meanings.values())
    beginnings = tuple(name.removesuffix("NAME") for name in meanings if name.endswith("_NAME"))
    for name in {name.rpartition("/")[2] for name in weighted}:
        whole = re.sub(r"_\d+$", "_K", name)
        for beginning in beginnings:
            whole = whole.removeprefix(beginning)
        assert whole in meanings, name
