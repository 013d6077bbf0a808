"""Geometry is float32 in every stage and at inference, whatever the precision: bf16 is for networks alone."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from modules.audio.keypoints import Keypoints
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.geometry.camera import Camera
from modules.layers.stylegan import MappingNetwork
from modules.portrait.htbsr.fusion import HTBSR
from modules.rendering.renderer import VolumeRenderer
from tasks.engine.devices import launch_fabric
from tasks.engine.step import Stepper
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig
from tasks.stages import i2p
from tests.conftest import ROOT
from tests.tasks import small_stages
from tests.tasks.conftest import face
from tests.tasks.small_stages import Batch, small_stage, tiny_eg3d_teacher

__all__ = ["face"]  # a fixture

Seen = dict[str, list[Tensor]]
STEP = 31  # of all stages: with the reference view, the gradient penalty and the losses at intervals


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """All cameras, rays, labels and key points that the networks are given, in order, by name."""
    values: Seen = {}

    def watch(kind: type, method: str, names: Callable[..., dict[str, Tensor]]) -> None:
        original = getattr(kind, method)

        def watched(self: Any, *arguments: Any, **named: Any) -> Any:
            result = original(self, *arguments, **named)
            for name, value in names(result, *arguments).items():
                values.setdefault(name, []).append(value.detach().clone())
            return result

        monkeypatch.setattr(kind, method, watched)

    def cameras(result: object, planes: Tensor, camera: Camera, *rest: object) -> dict[str, Tensor]:
        return {"cameras": camera.vector()}

    def rays(result: object, planes: Tensor, origins: Tensor, directions: Tensor, *rest: object) -> dict[str, Tensor]:
        return {"origins": origins, "directions": directions}

    def labels(result: Tensor, z: object, c: Tensor, *rest: object) -> dict[str, Tensor]:
        return {"labels": c, "mapped labels": result}

    watch(VolumeRenderer, "forward", cameras)
    watch(VolumeRenderer, "render_rays", rays)
    watch(MappingNetwork, "forward", labels)
    watch(HTBSR, "keypoints", lambda result, *rest: {"key points of the torso": result})
    watch(Keypoints, "forward", lambda result, *rest: {"key points": result})
    yield values


def take_step(task: Task, batch: Batch, precision: str, seen: Seen) -> Seen:
    """What is seen in a training step, and after it in a validation step that reads the same motion."""
    config = TrainerConfig(precision=precision)
    fabric = launch_fabric(config, "cpu")
    stepper = Stepper(task, config, fabric)
    seen.clear()
    stepper.step([batch], STEP, 0.0)
    for module in task.modules.values():
        module.eval()
    with torch.no_grad(), fabric.autocast():
        task.validation_step(batch)
    return dict(seen)


EXPECTED = {
    "i2p": {"cameras", "origins", "directions", "labels", "mapped labels"},
    "motion_adapter": {"cameras", "origins", "directions", "labels", "mapped labels"},
    "htbsr": {"cameras", "origins", "directions", "labels", "mapped labels", "key points of the torso"},
    "syncnet": {"key points"},
}


def compare(exact: Seen, rounded: Seen, names: set[str]) -> None:
    assert exact.keys() == rounded.keys() == names
    for name in names - {"mapped labels"}:  # after a step the weights of this network differ a little
        assert {value.dtype for value in rounded[name]} == {torch.float32}, name
        torch.testing.assert_close(
            rounded[name], exact[name], atol=1e-6, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
        )
    for name in names & {"mapped labels"}:
        torch.testing.assert_close(rounded[name][0], exact[name][0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("stage", ["i2p", "motion_adapter", "htbsr", "syncnet"])
def test_the_geometry_of_a_stage_is_that_of_float32(
    stage: str, face: MorphableModel, tmp_path: Path, seen: Seen
) -> None:
    steps = [take_step(*small_stage(stage, tmp_path), precision, seen) for precision in ("32-true", "bf16-mixed")]
    compare(*steps, EXPECTED[stage])


def test_the_key_points_of_a_predicted_motion_are_exact(
    face: MorphableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The motion comes from a network and differs with the precision; its key points follow from it in float32."""
    forward, calls = Keypoints.forward, []

    def watched(self: Keypoints, identity: Tensor, expression: Tensor) -> Tensor:
        calls.append((self, identity.detach(), expression.detach(), forward(self, identity, expression)))
        return calls[-1][-1]

    monkeypatch.setattr(Keypoints, "forward", watched)
    take_step(*small_stage("a2m", tmp_path), "bf16-mixed", {})
    assert len(calls) == 5  # landmarks of both motions and the lips; landmarks of both in the validation
    for keypoints, identity, expression, points in calls:
        exact = forward(keypoints, identity.float(), expression.float())
        torch.testing.assert_close(points, exact, atol=1e-6, rtol=0)


def test_the_geometry_of_stage_one_with_eg3d_is_that_of_float32(
    face: MorphableModel, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setitem(i2p.TEACHERS, "eg3d", lambda config: tiny_eg3d_teacher())
    steps = []
    for precision in ("32-true", "bf16-mixed"):
        loss = {"image": 1.0, "adversarial_reference": 0.1, "adversarial_target": 0.1}
        task = small_stages.i2p(teacher="eg3d", loss=loss, initial_weights="none")
        data = task.train_dataset()
        steps.append(take_step(task, default_collate([data[i] for i in range(2)]), precision, seen))
    compare(*steps, EXPECTED["i2p"])


def test_pncc_are_drawn_in_float32(face: MorphableModel, generator: torch.Generator) -> None:
    identity, expression = (torch.randn(2, size, generator=generator) for size in (80, 64))
    exact = render_pncc(face, identity, expression, 64)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(render_pncc(face, identity, expression, 64), exact, atol=1e-6, rtol=0)


GEOMETRY = [
    *sorted(Path(ROOT, "modules/geometry").glob("*.py")),
    *(path for path in sorted(Path(ROOT, "modules/face3d").glob("*.py")) if path.stem not in ("fitting", "shading")),
    *(Path(ROOT, "modules") / f"{name}.py" for name in ("rendering/rays", "audio/keypoints", "portrait/driving")),
]  # fitting.py is float64, which autocast leaves alone; a cross product of shading.py is none of its operations
PRODUCTS = {"einsum", "matmul", "bmm", "mm", "baddbmm", "addmm", "linear", "tensordot", "svd", "inv", "solve"}


def is_product(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    name = node.func if isinstance(node, ast.Call) else None
    return getattr(name, "attr", getattr(name, "id", "")) in PRODUCTS


@pytest.mark.parametrize("path", GEOMETRY, ids=lambda path: path.stem)
def test_every_product_of_geometry_is_outside_autocast(path: Path) -> None:
    """The rule that keeps it so: a function with a product of matrices is decorated with `full_precision`."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef) and any(map(is_product, ast.walk(function))):
            decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
            assert "full_precision()" in decorators, f"{path.name}: {function.name} needs @full_precision()"
