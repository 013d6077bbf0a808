import pytest
import torch

from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.official.configs import expected_shapes, portrait_config
from modules.official.names import to_official
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import DrivingConfig


@pytest.mark.parametrize(
    ("network", "config"),
    [
        ("image_to_plane", Real3DPortraitConfig.full(1)),
        ("head", Real3DPortraitConfig.full(2)),
        ("portrait", Real3DPortraitConfig.released()),
    ],
)
def test_the_config_of_an_official_file_is_read_from_its_shapes(network, config):
    with torch.device("meta"):
        state = build_portrait(config).state_dict()
    recognised = portrait_config(to_official(state, network), network)
    assert recognised.image_to_plane == config.image_to_plane
    assert recognised.motion_adapter == config.motion_adapter
    assert recognised.htbsr == config.htbsr and recognised.superresolution == config.superresolution
    assert recognised.driving == DrivingConfig.released()  # as those weights learnt it


def test_without_a_module_the_released_sizes_are_expected():
    with torch.device("meta"):
        module = SyncNet(SyncNetConfig.full())
    assert expected_shapes("syncnet", None, {}) == expected_shapes("syncnet", module, {})
    with pytest.raises(ValueError, match="give the module"):
        expected_shapes("part", None, {})
