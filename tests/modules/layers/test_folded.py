from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from modules.layers.folded import FoldedSynthesisBlock, fold_norm
from modules.layers.stylegan import SynthesisBlock, SynthesisBlockConfig


def block(**changes: Any) -> SynthesisBlock:
    torch.manual_seed(0)
    sizes = {"in_channels": 5, "out_channels": 4, "resolution": 8, "w_dim": 6}
    result = SynthesisBlock(SynthesisBlockConfig(**{**sizes, **changes}))
    for values in result.parameters():
        nn.init.normal_(values)
    return result


@pytest.mark.parametrize("changes", [{}, {"up": False}, {"clamp": 0.5}])
@pytest.mark.parametrize("with_image", [True, False])
def test_a_folded_block_gives_what_the_block_gives(changes: dict[str, Any], with_image: bool) -> None:
    whole = block(**changes)
    side = 8 if changes.get("up") is False else 4
    x = torch.randn(2, 5, side, side, generator=torch.Generator().manual_seed(1))
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2)) if with_image else None
    for made, expected in zip(FoldedSynthesisBlock(whole)(x, image), whole(x, image), strict=True):
        assert_close(made, expected, atol=2e-5, rtol=2e-5)


def test_styles_and_noise_are_refused() -> None:
    folded, x = FoldedSynthesisBlock(block()), torch.zeros(1, 5, 4, 4)
    with pytest.raises(ValueError, match="constant styles"):
        folded(x, None, torch.ones(1, 3, 6))
    with pytest.raises(ValueError, match="no noise"):
        folded(x, None, noise="const")


@pytest.mark.parametrize(("dims", "bias"), [(2, True), (2, False), (3, True)])
def test_a_norm_is_folded_into_the_convolution_before_it(dims: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = (nn.Conv2d if dims == 2 else nn.Conv3d)(3, 4, 3, padding=1, bias=bias)
    norm = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(4).eval()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, *[5] * dims)
    expected = norm(conv(x))
    fold_norm(conv, norm)
    assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)
