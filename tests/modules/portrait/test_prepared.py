import pytest
import torch
from torch import nn

from modules.layers.stylegan import SynthesisBlock
from modules.portrait.build import build_portrait
from modules.portrait.htbsr.blocks import SpectralConv
from modules.portrait.prepared import prepare
from modules.portrait.real3d_portrait import Real3DPortrait
from tests.modules.portrait.test_real3d_portrait import run
from tests.tiny import tiny_portrait_config


def trained(stage: int) -> Real3DPortrait:
    """A model whose norms have seen something."""
    torch.manual_seed(stage)
    model = build_portrait(tiny_portrait_config(stage)).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.3)
    return model


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_pictures_are_equal(stage: int) -> None:
    model = trained(stage)
    expected, made = run(model), run(prepare(model))
    for name in ("image", "image_raw", "planes"):
        wanted, given = getattr(expected, name), getattr(made, name)
        assert (given - wanted).norm() < 1e-4 * wanted.norm()
    assert wanted.std() > 0.01


def test_nothing_is_left_to_fold_and_the_model_itself_is_not_touched() -> None:
    model = trained(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared = prepare(model)
    assert not any(isinstance(part, (SpectralConv, SynthesisBlock)) for part in prepared.modules())
    assert not any(values.requires_grad for values in prepared.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(values.requires_grad for values in model.parameters())


def test_bfloat16_pictures_are_near() -> None:
    model = trained(3)
    expected = run(model).image
    with torch.autocast("cpu", torch.bfloat16):
        made = run(prepare(model, torch.bfloat16)).image
    assert made.dtype == torch.float32
    assert (made - expected).norm() < 0.05 * expected.norm()
