import dataclasses

import pytest

from modules.portrait.config import Real3DPortraitConfig
from tests.tiny import tiny_portrait_config


def test_contradictory_configs_are_refused() -> None:
    config = tiny_portrait_config()
    with pytest.raises(ValueError, match="plane_channels and plane_depth differ"):
        dataclasses.replace(config, renderer=dataclasses.replace(config.renderer, plane_depth=2))
    with pytest.raises(ValueError, match="not both or none"):
        dataclasses.replace(config, htbsr=None)
    with pytest.raises(ValueError, match="stage 4"):
        Real3DPortraitConfig.full(4)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_one_key_sets_the_size_of_everything(stage: int, size: int) -> None:
    """A config refuses parts whose sizes do not fit, so it is enough that it can be made."""
    for config in (
        Real3DPortraitConfig.full(stage, picture_size=size),
        Real3DPortraitConfig.demo(stage, picture_size=size),
    ):
        assert config.resolution == size and config.stage == stage
    full = Real3DPortraitConfig.full(stage, picture_size=size)
    assert (full.image_to_plane.input_size, full.pncc_size, full.neural_resolution) == (size, size, size // 4)


def test_the_presets_without_a_size_are_the_paper_s_and_the_demo_s() -> None:
    assert Real3DPortraitConfig.full() == Real3DPortraitConfig()
    assert Real3DPortraitConfig.full().resolution == 512 and Real3DPortraitConfig.demo().resolution == 256
    demo = Real3DPortraitConfig.demo()
    assert (demo.image_to_plane.input_size, demo.pncc_size, demo.neural_resolution) == (192, 128, 96)


def test_the_image_to_plane_network_has_three_scales_at_both_sizes() -> None:
    for preset in (Real3DPortraitConfig.full, Real3DPortraitConfig.demo):
        blocks = [preset(2, scale).image_to_plane.vit_blocks for scale in ("small", "standard", "large")]
        assert blocks == sorted(set(blocks)) and preset(2) == preset(2, "standard")
        with pytest.raises(ValueError, match="huge"):
            preset(2, "huge")
