import pytest
import torch
from torch.testing import assert_close

from modules.layers.segformer import (
    Block,
    BlockConfig,
    MiT,
    MiTConfig,
    PatchEmbed,
    ReducedAttention,
    StochasticDepth,
    to_map,
    to_tokens,
)


def test_tokens_and_maps_are_inverse():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(to_map(to_tokens(x), 4), x)


def test_patches_shrink_the_map():
    tokens, height = PatchEmbed(3, 8, 7, 4)(torch.randn(1, 3, 16, 16))
    assert tokens.shape == (1, 16, 8) and height == 4


def test_attention_equals_its_formula(generator):
    torch.manual_seed(0)
    attention = ReducedAttention(8, 2, 1)
    tokens = torch.randn(1, 9, 8, generator=generator)
    keys, values = attention.kv(tokens).split(8, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = attention.q(tokens)[..., part] @ keys[..., part].mT / 2  # square root of 4
        heads.append(scores.softmax(dim=-1) @ values[..., part])
    assert_close(attention(tokens, 3), attention.proj(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize("reduction", [1, 2])
def test_a_block_keeps_the_shape_and_passes_gradients(reduction):
    block = Block(BlockConfig(width=8, heads=2, reduction=reduction))
    tokens = torch.randn(2, 16, 8, requires_grad=True)
    output = block(tokens, 4)
    output.square().mean().backward()
    assert output.shape == tokens.shape
    assert all(p.grad is not None for p in block.parameters())


def test_reduced_attention_still_sees_the_whole_picture(generator):
    torch.manual_seed(0)
    attention = ReducedAttention(4, 1, 2)
    tokens = torch.randn(1, 16, 4, generator=generator)
    changed = tokens.clone()
    changed[:, -1] += 1
    assert (attention(changed, 4)[:, 0] - attention(tokens, 4)[:, 0]).abs().max() > 1e-6


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25), torch.ones(4000, 3)
    dropped = layer(x)
    assert_close(dropped.unique(), torch.tensor([0.0, 4 / 3]))
    assert (dropped == dropped[:, :1]).all()
    assert abs(dropped.mean() - 1) < 0.05
    assert layer.eval()(x) is x


def test_the_encoder_gives_four_scales():
    config = MiTConfig(widths=(4, 8, 8, 8), heads=(1, 2, 2, 2), depths=(1, 1, 1, 1))
    maps = MiT(config)(torch.randn(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 16), (8, 8, 8), (8, 4, 4), (8, 2, 2)]


@pytest.mark.parametrize(("scale", "parameters"), [("b0", 3_319_392), ("b2", 24_196_288), ("b5", 81_443_008)])
def test_published_scales_have_the_published_sizes(scale, parameters):
    with torch.device("meta"):
        model = MiT(MiTConfig.scale(scale))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 is not divisible by 3"):
        ReducedAttention(10, 3, 1)
