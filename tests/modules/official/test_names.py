import pytest
import torch

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.official.names import identify, load_official, official_state, to_official, to_ours
from modules.portrait.build import build_portrait
from modules.portrait.discriminator import DualDiscriminator, DualDiscriminatorConfig
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from modules.system.errors import UserError
from tests.tiny import tiny_portrait_config


def tiny_modules() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "image_to_plane": build_portrait(tiny_portrait_config(1)),
        "head": build_portrait(tiny_portrait_config(2, depth=3)),
        "portrait": build_portrait(tiny_portrait_config(3)),
        "audio2motion": Audio2Motion(Audio2MotionConfig.demo()),
        "syncnet": SyncNet(SyncNetConfig(audio_size=8, base=4, mouth_base=4, layers_per_block=1, embedding=8)),
        "discriminator": DualDiscriminator(DualDiscriminatorConfig(resolution=16, base_channels=64, max_channels=8)),
        "eg3d": EG3DGenerator(
            EG3DConfig(
                z_dim=4,
                w_dim=4,
                plane_resolution=8,
                max_channels=4,
                renderer=RendererConfig(plane_channels=4),
                superresolution=SuperresolutionConfig(
                    resolution=8, feature_channels=4, middle_channels=4, output_channels=4, w_dim=4
                ),
            )
        ),
    }


@pytest.mark.parametrize("network", tiny_modules())
def test_there_and_back_every_tensor_is_the_same(network):
    module = tiny_modules()[network]
    state = module.state_dict()
    official = to_official(state, network, module)
    assert identify(official) == network
    again = to_ours(official, network, module)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)
    module.load_state_dict(again, strict=True)
    back = to_official(again, network, module)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], official[key]) for key in official)


def test_a_portrait_gets_the_original_names_and_constants():
    module = tiny_modules()["portrait"]
    official = to_official(module.state_dict(), "portrait", module)
    expected = {
        "cano_img2plane_backbone.low_reso_encoder.encoder.conv1.weight",
        "decoder.net.0.weight",
        "secc_img2plane_backbone.prenet.resample_filter",
        "superresolution.torso_encoder.0.weight",
        "superresolution.head_torso_block.conv1.resample_filter",
        "lambda_pertube_secc",
    }
    assert expected <= official.keys()
    kernel = official["superresolution.block0.resample_filter"]
    assert kernel.shape == (4, 4) and kernel.sum() == 1 and kernel[0, 0] * 9 == kernel[1, 1]


@pytest.fixture
def head() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    module = tiny_modules()["head"]
    return module, to_official(module.state_dict(), "head", module)


def test_an_unknown_key_is_refused_by_name(head):
    module, official = head
    with pytest.raises(UserError, match=r"1 unknown: surprise\.weight"):
        to_ours({**official, "surprise.weight": torch.zeros(1)}, "head", module)


def test_a_missing_key_is_refused_by_its_official_name(head):
    module, official = head
    official.pop("cano_img2plane_backbone.high_reso_encoder.first.bias")
    with pytest.raises(UserError, match=r"1 missing: cano_img2plane_backbone\.high_reso_encoder\.first\.bias"):
        to_ours(official, "head", module)


def test_a_misshapen_tensor_is_refused_with_both_shapes(head):
    module, official = head
    official["decoder.net.0.bias"] = torch.zeros(5)
    with pytest.raises(UserError, match=r"1 misshapen: decoder\.net\.0\.bias \[5\] instead of \[8\]"):
        to_ours(official, "head", module)


def test_many_wrong_keys_are_counted_but_not_all_listed(head):
    module, official = head
    extra = {f"extra{i}": torch.zeros(1) for i in range(9)}
    with pytest.raises(UserError, match=r"9 unknown: extra0, extra1, extra2, \.\.\."):
        to_ours({**official, **extra}, "head", module)


def test_another_network_is_recognised():
    module = tiny_modules()["audio2motion"]
    with pytest.raises(UserError, match="this looks like an audio-to-motion checkpoint"):
        to_ours(module.state_dict(), "portrait")


def test_going_back_also_checks():
    module = tiny_modules()["head"]
    state = module.state_dict()
    state.pop("renderer.decoder.net.0.bias")
    with pytest.raises(UserError, match=r"1 missing: renderer\.decoder\.net\.0\.bias"):
        to_official(state, "head", module)


def test_both_spellings_of_weight_norm_are_read():
    module = tiny_modules()["audio2motion"]
    new = {
        key.replace(".weight_g", ".parametrizations.weight.original0").replace(
            ".weight_v", ".parametrizations.weight.original1"
        ): value
        for key, value in module.state_dict().items()
    }
    assert new.keys() != module.state_dict().keys()
    load_official(module, new, "audio2motion")


def test_checkpoint_files_may_be_nested_flat_or_bare():
    state = {"a.weight": torch.ones(1), "b.bias": torch.zeros(2)}
    nested = {"global_step": 3, "state_dict": {"model": state, "disc": {}}}
    flat = {"state_dict": {f"model._orig_mod.{key}": value for key, value in state.items()}}
    for checkpoint in (nested, flat, state):
        assert official_state(checkpoint).keys() == state.keys()
    with pytest.raises(UserError, match="no part 'syncnet'; it holds model, disc"):
        official_state(nested, "syncnet")
