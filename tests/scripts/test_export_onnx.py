import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.pipeline import TalkingPortrait
from modules.geometry.camera import pose_camera
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.demo.head_prior import HeadPriorConfig
from modules.portrait.driving import Driving, DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from scripts import export_onnx
from scripts.export_onnx import REFUSED, check, example, main, named_tensors, refilled, run, to_onnx
from tests.conftest import ROOT
from tests.golden.compare import relative_error
from tests.tiny import tiny_portrait_config

pytest.importorskip("onnx", reason="pip install -r requirements-onnx.txt")
onnxscript = pytest.importorskip("onnxscript", reason="pip install -r requirements-onnx.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -r requirements-onnx.txt")

NEITHER = 900_009  # a person that the files were neither traced nor checked with


def tiny(stage: int = 3, depth: int = 1, **changes: object) -> Real3DPortraitConfig:
    return tiny_portrait_config(stage, depth, driving=DrivingConfig.demo(), **changes)


def saved(folder: Path, config: Real3DPortraitConfig) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    save_checkpoint(folder / "portrait", {"model": to_dict(config)}, dict(build_portrait(config).named_children()))
    return folder


def assert_the_files_draw_what_the_model_draws(checkpoint: Path, folder: Path) -> None:
    """A photo through photo.onnx, and what that makes through frame.onnx, against the model as it is loaded."""
    pipeline = TalkingPortrait.load(checkpoint, march="full")
    photo, driving = example(pipeline.model, pipeline.config, NEITHER)
    parts = {name: (folder / f"{name}.onnx").read_bytes() for name in ("photo", "frame")}
    source = run(parts["photo"], named_tensors(photo, "photo"), onnxruntime)
    made = run(parts["frame"], source | named_tensors(driving, "driving"), onnxruntime)
    with torch.inference_mode():
        output = pipeline.model(pipeline.model.encode(photo), driving)
    assert output.image.std() > 0.05
    assert relative_error(made["image"], output.image, "max") < 1e-4
    assert relative_error(made["alpha"], output.decoded.alpha, "max") < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        tiny(stage=1),
        pytest.param(tiny(stage=2), marks=pytest.mark.slow),
        pytest.param(tiny(), marks=pytest.mark.slow),
        pytest.param(tiny(depth=2), marks=pytest.mark.slow),
        pytest.param(tiny(head_prior=HeadPriorConfig()), marks=pytest.mark.slow),
    ],
    ids=["stage 1", "stage 2", "stage 3", "tri-grid", "demo parts"],
)
def test_onnx_runtime_draws_what_the_model_draws(config: Real3DPortraitConfig, tmp_path: Path, capsys) -> None:
    checkpoint = saved(tmp_path, config)
    assert main([str(checkpoint), "--output", str(tmp_path / "new" / "folder")]) == 0
    assert "image [1, 3, 64, 64]" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["frame.onnx", "photo.onnx"]
    assert_the_files_draw_what_the_model_draws(checkpoint, tmp_path / "new" / "folder")


@pytest.mark.slow
def test_the_example_of_the_page_draws_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(ROOT / "checkpoints/demo"), "--output", str(tmp_path / "demo_onnx")]) == 0
    assert_the_files_draw_what_the_model_draws(ROOT / "checkpoints/demo", tmp_path / "demo_onnx")
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    [example_code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/onnx.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(example_code, names)  # noqa: S102
    frames = names["pipeline"].frames(names["portrait"], names["motion"])
    for picture, frame in zip(names["pictures"], frames):
        assert np.abs(picture.astype(int) - frame).mean() < 0.2  # the pipeline's rays march in the band


class Solver(torch.nn.Module):
    """The operators for which the exporter needs a translation."""

    def forward(self, pose: torch.Tensor, limits: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.linalg.inv_ex(pose).inverse, torch.searchsorted(limits, values, right=True)


def test_poses_are_inverted_and_values_are_found_among_limits(generator: torch.Generator) -> None:
    pose = pose_camera(torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)).camera_to_world
    limits = torch.rand(2, 5, 7, generator=generator).sort().values
    values = torch.cat([limits[..., 2:4], torch.rand(2, 5, 3, generator=generator)], dim=-1)
    inputs = {"pose": pose, "limits": limits, "values": values}
    made = run(to_onnx(Solver(), inputs, ["inverse", "index"], onnxscript), inputs, onnxruntime)
    inverse, index = Solver()(*inputs.values())
    assert relative_error(made["inverse"], inverse) < 1e-6
    assert torch.equal(made["index"], index)


def test_records_are_taken_apart_and_put_together() -> None:
    driving = Driving(pose_camera(torch.zeros(1, 3), torch.zeros(1, 3)), None, torch.ones(1, 68, 3))
    tensors = named_tensors(driving, "driving")
    assert list(tensors) == ["driving.camera.camera_to_world", "driving.camera.intrinsics", "driving.keypoints"]
    other = refilled(driving, (2 * tensor for tensor in tensors.values()))
    assert other.pncc is None and (other.keypoints == 2).all()
    assert torch.equal(other.camera.intrinsics, 2 * driving.camera.intrinsics)


def test_files_that_give_other_results_are_not_written(tmp_path: Path, monkeypatch, capsys) -> None:
    exact = export_onnx.run
    monkeypatch.setattr(
        export_onnx, "run", lambda *given: {name: 1.001 * value for name, value in exact(*given).items()}
    )
    assert main([str(saved(tmp_path, tiny(stage=1))), "--output", str(tmp_path / "out")]) == 2
    assert (
        "error: ONNX Runtime gives other results than PyTorch (by 1.0e-03 of the largest value)"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_line(package: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main([str(ROOT / "checkpoints/demo"), "--output", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"the export needs the package {package}; pip install" in line and "requirements-onnx.txt" in line


def test_a_folder_without_checkpoint_is_one_line(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: no checkpoint in {tmp_path}; ")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(export_onnx, "make_parts", lambda *given: pytest.fail("the work began"))
    (tmp_path / "file").touch()
    checkpoint = saved(tmp_path, tiny(stage=1))
    assert main([str(checkpoint), "--output", str(tmp_path / "file")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'file'}") and line.endswith("choose another place")


@pytest.mark.parametrize(
    ("key", "value"),
    [("missing_rays", "official"), ("fusion", "predicted_alpha"), ("keypoint_source", "learned")],
)
def test_models_that_no_graph_can_hold_are_refused_by_their_key(key: str, value: str) -> None:
    config = tiny()
    if key == "missing_rays":
        config = replace(config, renderer=replace(config.renderer, missing_rays=value))
    elif key == "fusion":
        config = replace(config, htbsr=replace(config.htbsr, fusion=value))
    else:
        config = replace(config, htbsr=replace(config.htbsr, torso=replace(config.htbsr.torso, keypoint_source=value)))
    with pytest.raises(UserError, match=rf"^some/folder has .*{key} {value}: {REFUSED[value]}"):
        check(Path("some/folder"), config)
    check(Path("some/folder"), tiny())
