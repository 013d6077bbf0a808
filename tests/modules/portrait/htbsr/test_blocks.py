"""Convolution blocks: fast paths against plain ones, spectral normalisation."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from modules.portrait.htbsr.blocks import (
    DownBlock,
    ResidualBlock,
    SpectralConv,
    UpBlock,
    depth_constant_conv,
    volume_conv,
)
from tests.golden.compare import relative_error


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_volume_convolution_is_the_plain_one_with_gradients(generator: torch.Generator, kernel: int) -> None:
    x = torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, kernel, kernel, kernel, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, generator=generator, dtype=torch.float64)
    fast, plain = volume_conv(x, weight, bias), F.conv3d(x, weight, bias, padding=kernel // 2)
    assert relative_error(fast, plain) < 1e-12
    seed = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(*[torch.autograd.grad(result, (x, weight), seed) for result in (fast, plain)]):
        assert relative_error(a, b) < 1e-12


@pytest.mark.parametrize(("kernel", "depth"), [(7, 16), (3, 8), (7, 2), (5, 5)])
def test_an_image_repeated_along_depth_need_not_be_repeated(
    generator: torch.Generator, kernel: int, depth: int
) -> None:
    image = torch.randn(2, 3, 5, 4, generator=generator)
    weight = torch.randn(4, 3, kernel, kernel, kernel, generator=generator)
    repeated = image[:, :, None].expand(-1, -1, depth, -1, -1)
    plain = F.conv3d(repeated, weight, padding=kernel // 2)
    assert relative_error(depth_constant_conv(image, weight, depth), plain) < 1e-5


def test_spectral_convolution_reaches_a_largest_singular_value_of_one(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    layer = SpectralConv(4, 6, 3)
    x = torch.randn(1, 4, 5, 5, generator=generator)
    for _ in range(200):
        layer(x)
    layer.eval()
    matrix = layer.weight_orig.flatten(1)
    expected = F.conv2d(x, layer.weight_orig / torch.linalg.matrix_norm(matrix, 2), layer.bias, padding=1)
    assert relative_error(layer(x), expected) < 1e-3


def test_spectral_convolution_iterates_in_training_only(generator: torch.Generator) -> None:
    layer, x = SpectralConv(3, 3, 3), torch.randn(1, 3, 4, 4, generator=generator)
    before = layer.weight_u.clone()
    layer.eval()(x)
    assert torch.equal(layer.weight_u, before)
    layer.train()(x).sum().backward()
    assert not torch.equal(layer.weight_u, before) and layer.weight_orig.grad.abs().sum() > 0


def test_the_norm_of_a_spectral_convolution_is_found_in_full_precision_under_autocast(generator) -> None:
    layer, x = SpectralConv(16, 16, 3), torch.randn(1, 16, 4, 4, generator=generator)
    exact = deepcopy(layer)
    with torch.no_grad():
        exact(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype in (torch.bfloat16, torch.float32)
    assert_close(layer.weight_u, exact.weight_u)
    assert_close(layer.weight_v, exact.weight_v)


def test_volumes_keep_their_depth_when_resampled() -> None:
    x = torch.zeros(1, 4, 3, 8, 8)
    assert DownBlock(4, 5, dims=3)(x).shape == (1, 5, 3, 4, 4)
    assert UpBlock(4, 5, dims=3)(x).shape == (1, 5, 3, 16, 16)
    assert ResidualBlock(4, dims=3)(x).shape == x.shape
