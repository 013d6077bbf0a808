"""Exports of one run after the other; tests/scripts/test_export_checkpoint.py asks the command for every kind."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.layers.stylegan import upsample_2x
from modules.portrait.build import load_portrait, read_portrait_config
from modules.system.checkpoint import load_state, read_config, save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.demo.motion_adapter_patches import MotionAdapterPatchesConfig, MotionAdapterPatchesTask
from tasks.export import export, shows_raw_render
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import RATES, pair_batch, tiny_model


@pytest.fixture
def listener(tmp_path: Path) -> Path:
    """A run of A2M with Whisper's features, whose checkpoint holds more than inference needs."""
    config = {"model": {"a": 1}, "features": "whisper", "face_model": "procedural", "steps": 3, "pitch": "world"}
    modules = {name: torch.nn.Linear(2, 2) for name in ("audio2motion", "syncnet")}
    save_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000003", config, modules, {"step": 3})
    return tmp_path / "run"


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    sizes = WhisperConfig(width=16, heads=2, layers=1, block=16, before=4, after=2)
    save_checkpoint(tmp_path / "layers", {"model": to_dict(sizes)}, {"whisper": WhisperFeatures(sizes)}, half=True)
    return tmp_path / "layers"


def test_the_layers_that_a_model_hears_through_lie_beside_it(listener, layers, tmp_path):
    assert export(listener, "audio2motion", tmp_path / "out", half=False, whisper=layers) == ("audio2motion",)
    assert read_config(tmp_path / "out" / "audio2motion") == {
        "model": {"a": 1}, "features": "whisper", "face_model": "procedural", "pitch": "world"
    }  # fmt: skip
    assert load_state(tmp_path / "out" / "audio2motion", "audio2motion")["weight"].dtype == torch.float32
    assert load_state(tmp_path / "out" / "whisper", "whisper").keys() == load_state(layers, "whisper").keys()


def test_a_run_of_another_kind_is_refused_and_leaves_nothing(listener, tmp_path):
    with pytest.raises(UserError, match="is no portrait checkpoint"):
        export(listener, "portrait", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_trained_the_raw_render_alone_shows_it_upscaled(generator, tmp_path):
    config = MotionAdapterPatchesConfig(model=tiny_model(2), loss={"image_raw": 1.0}, learning_rates=RATES)
    task = MotionAdapterPatchesTask(config, generator)
    for step in range(2):
        Steps(task)(pair_batch(generator), step)
    save_checkpoint(tmp_path / "run", to_dict(config), task.modules)
    export(tmp_path / "run", "portrait", tmp_path / "out", half=False)
    assert shows_raw_render(tmp_path / "out")
    model = load_portrait(tmp_path / "out" / "portrait", read_portrait_config(tmp_path / "out" / "portrait"))
    frames = task.frames(pair_batch(generator))
    with torch.no_grad():
        output = model.eval()(model.encode(frames.photo()), frames.driving(frames.target))
    raw = output.rendered.feature[:, :3]
    while raw.shape[-1] < output.image.shape[-1]:
        raw = upsample_2x(raw)
    assert_close(output.image, raw.clamp(-1, 1), atol=1e-5, rtol=0)


def test_a_trained_super_resolution_stays_as_it_is(generator, tmp_path):
    state = (
        MotionAdapterPatchesTask(MotionAdapterPatchesConfig(model=tiny_model(2), loss={"image_raw": 1.0}), generator)
        .modules["superresolution"]
        .state_dict()
    )
    trained = state | {"block0.conv0.bias": state["block0.conv0.bias"] + 0.1}
    save_checkpoint(tmp_path / "run", {"model": {}}, {"superresolution": trained})
    export(tmp_path / "run", "portrait", tmp_path / "out", half=False)
    stored = load_state(tmp_path / "out" / "portrait", "superresolution")
    assert not shows_raw_render(tmp_path / "out") and all(torch.equal(stored[key], trained[key]) for key in trained)
