"""Every YAML of the image stages fits its task; the demo's models are those of `demo()`."""

from pathlib import Path

import pytest

from modules.portrait.config import Real3DPortraitConfig
from modules.system.config import load_yaml
from tasks.engine.settings import read_settings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STAGES = {"i2p": 1, "motion_adapter": 2, "htbsr": 3}


@pytest.mark.parametrize("folder", [".", "demo"])
@pytest.mark.parametrize("name", STAGES)
def test_the_file_fits_the_task(name, folder):
    settings = read_settings(CONFIGS / folder / f"{name}.yaml", [])
    size = Real3DPortraitConfig.demo if folder == "demo" else Real3DPortraitConfig.full
    assert settings.task.name.removesuffix("_patches") == name and settings.task_config.model == size(STAGES[name])


@pytest.mark.parametrize("name", STAGES)
def test_the_demo_needs_no_outside_file(name):
    config = read_settings(CONFIGS / "demo" / f"{name}.yaml", []).task_config
    assert not any(weight > 0 and "perceptual" in loss for loss, weight in config.loss.items())
    assert config.model.driving.face_model == "procedural"
    assert getattr(config, "teacher", "procedural") == "procedural"
    assert getattr(config, "initial_weights", "none") == "none"


def test_the_demo_takes_less_than_fifty_minutes():
    assert sum(load_yaml(CONFIGS / "demo" / f"{name}.yaml")["max_minutes"] for name in STAGES) <= 50
