from pathlib import Path

import pytest
import torch

from modules.portrait.build import build_portrait, load_portrait, read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.demo.portrait import HeadPriorPortrait
from modules.portrait.demo.torso import PhotoTorsoModel
from modules.portrait.real3d_portrait import Real3DPortrait
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tests.tiny import tiny_portrait_config


def test_the_paper_s_model_knows_nothing_of_the_demo() -> None:
    with torch.device("meta"):
        model = build_portrait(Real3DPortraitConfig.full())
        demo = build_portrait(Real3DPortraitConfig.demo())
    assert type(model) is Real3DPortrait and type(demo) is HeadPriorPortrait
    assert not any(isinstance(part, PhotoTorsoModel) for part in model.modules())
    assert any(isinstance(part, PhotoTorsoModel) for part in demo.modules())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_demo_fits_into_20_megabytes(stage: int) -> None:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_portrait(Real3DPortraitConfig.demo(stage)).parameters())
    assert parameters < 15_000_000 / 1.5  # under 20 MB in half precision


def test_the_released_model_has_148_million_parameters() -> None:
    with torch.device("meta"):
        model = build_portrait(Real3DPortraitConfig.released())
    parameters = sum(p.numel() for p in model.parameters())
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert list(parts) == ["image_to_plane", "motion_adapter", "renderer", "htbsr"]
    assert parts["image_to_plane"] == 87_332_960 and parts["renderer"] == 4_257
    assert parameters == 148_019_272 - 2  # without two loss weights


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_checkpoint_has_a_file_for_each_part(stage: int, tmp_path: Path) -> None:
    config = tiny_portrait_config(stage)
    model = build_portrait(config)
    save_checkpoint(tmp_path / "c", {"model": to_dict(config)}, dict(model.named_children()))
    decoder = "htbsr" if stage == 3 else "superresolution"
    assert (tmp_path / "c" / f"{decoder}.safetensors").is_file()
    again = load_portrait(tmp_path / "c", read_portrait_config(tmp_path / "c"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    (tmp_path / "c" / f"{decoder}.safetensors").unlink()
    with pytest.raises(UserError, match=f"{decoder}.safetensors does not exist"):
        load_portrait(tmp_path / "c", config)
