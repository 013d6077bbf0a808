"""Exports of one run after the other; tests/scripts/test_export_checkpoint.py asks the command for every kind."""

from pathlib import Path

import pytest
import torch

from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.system.checkpoint import load_state, read_config, save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.export import export


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
