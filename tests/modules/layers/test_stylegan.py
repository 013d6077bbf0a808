"""StyleGAN2 layers: resampling, modulation, and the equality of fast and plain paths."""

import pytest
import torch
import torch.nn.functional as F

from modules.layers import stylegan
from modules.layers.stylegan import (
    ConvLayer,
    FullyConnected,
    MappingNetwork,
    MappingNetworkConfig,
    SynthesisBlock,
    SynthesisBlockConfig,
)
from tests.golden.compare import relative_error

BLOCK = SynthesisBlockConfig(in_channels=4, out_channels=6, resolution=8, w_dim=5)


def seeded_block() -> SynthesisBlock:
    torch.manual_seed(0)
    return SynthesisBlock(BLOCK)


def seeded_mapping(c_dim: int) -> MappingNetwork:
    torch.manual_seed(0)
    return MappingNetwork(MappingNetworkConfig(z_dim=6, c_dim=c_dim, w_dim=8, num_ws=3))


def test_upsampling_keeps_a_constant_image_inside(generator: torch.Generator) -> None:
    upsampled = stylegan.upsample_2x(torch.full((1, 2, 6, 5), 3.0))
    assert upsampled.shape == (1, 2, 12, 10)
    assert torch.allclose(upsampled[..., 1:-1, 1:-1], torch.tensor(3.0))
    assert (upsampled[..., 0, :] < 3).all()  # zeros outside


def test_upsampling_is_zero_insertion_and_the_fir_kernel(generator: torch.Generator) -> None:
    image = torch.randn(1, 2, 4, 5, generator=generator)
    spread = torch.zeros(1, 2, 8, 10)
    spread[..., ::2, ::2] = image
    plain = stylegan.fir_filter(F.pad(spread, (2, 1, 2, 1)), padding=0, gain=4.0)
    assert relative_error(stylegan.upsample_2x(image), plain) < 1e-6


def test_both_ways_to_convolve_and_upsample_agree_with_gradients(generator: torch.Generator) -> None:
    x = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(7, generator=generator, dtype=torch.float64)
    results = [way(x, weight, bias) for way in (stylegan.convolve_up, stylegan.convolve_up_phases)]
    assert relative_error(results[1], results[0]) < 1e-12
    seed = torch.randn(results[0].shape, generator=generator, dtype=torch.float64)
    for plain, fast in zip(*[torch.autograd.grad(result, (x, weight), seed) for result in results]):
        assert relative_error(fast, plain) < 1e-12


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_a_shared_style_folds_into_the_weight(generator: torch.Generator, up: int, demodulate: bool) -> None:
    x, weight = torch.randn(2, 4, 6, 6, generator=generator), torch.randn(5, 4, 3, 3, generator=generator)
    styles, bias = torch.randn(1, 4, generator=generator), torch.randn(5, generator=generator)
    folded = stylegan.modulated_conv(x, weight, styles, demodulate, up, bias=bias)
    separate = stylegan.modulated_conv(x, weight, styles.expand(2, -1), demodulate, up, bias=bias)
    assert relative_error(folded, separate) < 1e-5


def test_demodulation_ignores_the_scale_of_the_style(generator: torch.Generator) -> None:
    x, weight = torch.randn(1, 4, 6, 6, generator=generator), torch.randn(5, 4, 3, 3, generator=generator)
    styles = torch.randn(1, 4, generator=generator)
    once, tenfold = (stylegan.modulated_conv(x, weight, styles * scale) for scale in (1, 10))
    assert relative_error(tenfold, once) < 1e-5


def test_the_clamp_grows_with_the_gain() -> None:
    x = torch.tensor([[100.0]])
    assert stylegan.bias_activation(x, None, "linear", gain=0.5, clamp=4.0).item() == 2.0
    assert x.item() == 100.0


def test_the_caller_keeps_its_tensor(generator: torch.Generator) -> None:
    x = torch.randn(2, 3, generator=generator)
    before = x.clone()
    stylegan.bias_activation(x, None, "lrelu")
    assert torch.equal(x, before)


def test_a_block_doubles_the_resolution_and_adds_the_upsampled_image(generator: torch.Generator) -> None:
    block = seeded_block()
    x, image = torch.randn(2, 4, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    features, picture = block(x, image)
    assert features.shape == (2, 6, 8, 8) and picture.shape == (2, 3, 8, 8)
    without = block(x, None)[1]
    assert relative_error(picture - without, stylegan.upsample_2x(image)) < 1e-5


def test_styles_of_ones_are_the_default(generator: torch.Generator) -> None:
    block, x = seeded_block(), torch.randn(2, 4, 4, 4, generator=generator)
    assert relative_error(block(x, None)[0], block(x, None, torch.ones(2, 3, 5))[0]) < 1e-5


def test_noise_is_stored_drawn_or_absent(generator: torch.Generator) -> None:
    block, x = seeded_block(), torch.randn(1, 4, 4, 4, generator=generator)
    with torch.no_grad():
        block.conv1.noise_strength.fill_(1.0)
    none, const = block(x, None)[0], block(x, None, noise="const")[0]
    fresh = [block(x, None, noise="random", generator=torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert not torch.equal(none, const) and torch.equal(fresh[0], fresh[1]) and not torch.equal(fresh[0], fresh[2])
    with pytest.raises(ValueError, match="loud"):
        block(x, None, noise="loud")


def test_names_of_stored_tensors_are_those_of_released_files() -> None:
    layer = {"weight", "bias", "affine.weight", "affine.bias", "noise_strength", "noise_const"}
    rgb = {f"torgb.{name}" for name in ("weight", "bias", "affine.weight", "affine.bias")}
    expected = {f"{conv}.{name}" for conv in ("conv0", "conv1") for name in layer} | rgb
    assert set(SynthesisBlock(BLOCK).state_dict()) == expected


def test_equalised_layers_start_with_unit_variance(generator: torch.Generator) -> None:
    torch.manual_seed(1)
    x = torch.randn(512, 256, generator=generator)
    assert FullyConnected(256, 256)(x).std().item() == pytest.approx(1, abs=0.05)
    assert FullyConnected(256, 256, lr_multiplier=0.01)(x).std().item() == pytest.approx(0.01 / 0.01, abs=0.05)
    image = torch.randn(2, 32, 32, 32, generator=generator)
    assert ConvLayer(32, 32, 3)(image)[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("options", [{"up": 2, "down": 2}, {"up": 2, "kernel_size": 3}, {"down": 4}])
def test_impossible_resampling_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot combine"):
        ConvLayer(2, 2, **{"kernel_size": 1, **options})


def test_mapping_ignores_the_scale_of_the_latent(generator: torch.Generator) -> None:
    mapping = seeded_mapping(c_dim=4)
    z, c = torch.randn(2, 6, generator=generator), torch.randn(2, 4, generator=generator)
    assert mapping(z, c).shape == (2, 3, 8)
    assert relative_error(mapping(7 * z, c), mapping(z, c)) < 1e-4
    assert not torch.allclose(mapping(z, c), mapping(z, c + 1))


def test_truncation_moves_only_the_first_styles(generator: torch.Generator) -> None:
    mapping = seeded_mapping(c_dim=0)
    z = torch.randn(2, 6, generator=generator)
    whole, cut = mapping(z, None), mapping(z, None, truncation_psi=0.25, truncation_cutoff=1)
    assert torch.equal(cut[:, 1:], whole[:, 1:]) and relative_error(cut[:, 0], whole[:, 0] / 4) < 1e-5


def test_mapping_without_its_condition_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="needs c"):
        seeded_mapping(c_dim=4)(torch.randn(2, 6, generator=generator), None)


def test_minibatch_std_is_zero_for_equal_samples_and_refuses_uneven_groups(generator: torch.Generator) -> None:
    one = torch.randn(1, 3, 4, 4, generator=generator)
    assert stylegan.minibatch_std(one.expand(4, -1, -1, -1), 2).abs().max() < 1.1e-4
    with pytest.raises(ValueError, match="batch of 3"):
        stylegan.minibatch_std(one.expand(3, -1, -1, -1), 2)


def test_half_precision_runs_without_type_errors(generator: torch.Generator) -> None:
    block = SynthesisBlock(BLOCK).bfloat16()
    x = torch.randn(2, 4, 4, 4, generator=generator).bfloat16()
    features, image = block(x, torch.zeros(2, 3, 4, 4).bfloat16(), noise="const")
    assert features.dtype == image.dtype == torch.bfloat16
