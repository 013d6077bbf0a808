"""The filters of a CPU and those of other devices agree; fillings keep what is known."""

import numpy as np
import torch
from torch.testing import assert_close

from modules.rig import filters


def test_look_ups_agree_with_pytorch_within_the_steps_of_opencv(generator):
    texture = torch.rand(20, 30, 4, generator=generator)
    places = torch.rand(3000, 2, generator=generator) * torch.tensor([34.0, 24.0]) - 2
    ours = filters.look_up(texture, places)
    assert_close(ours, filters._sampled(texture, places), atol=0.05, rtol=0)  # OpenCV looks between 32 places a pixel
    assert (ours - filters._sampled(texture, places)).abs().mean() < 0.008


def test_a_look_up_at_the_middles_of_pixels_is_the_texture(generator):
    texture = torch.rand(6, 9, 3, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    assert_close(filters.look_up(texture, torch.stack([columns, rows], -1) + 0.5), texture, atol=1e-6, rtol=0)
    assert filters.look_up(texture, torch.zeros(0, 2)).shape == (0, 3)


def test_blurs_dilations_and_enlargements_agree_with_pytorch(generator):
    image = torch.rand(2, 12, 12, 4, generator=generator)
    assert_close(filters.gaussian(image, 5, 1.2), filters._convolved(image, 5, 1.2), atol=1e-5, rtol=0)
    assert_close(filters.enlarged(image, 30), filters._interpolated(image, 30), atol=1e-5, rtol=0)
    assert_close(filters.averaged(image), filters._pooled_mean(image), atol=1e-6, rtol=0)
    mask = image[..., 0] > 0.9
    assert torch.equal(filters.widened(mask, 3), filters._pooled(mask, 3)) and mask.any()
    heights = torch.where(mask, image[..., 1], -100.0)
    assert torch.equal(filters.greatest(heights, 5), filters._maximum(heights, 5))


def test_a_filling_keeps_what_is_known_and_stays_between_its_values(generator):
    image = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32)
    known = np.zeros((40, 40), bool)
    known[:10] = True
    filled = filters.fill(image, known)
    np.testing.assert_allclose(filled[known], image[known])
    assert filled.min() >= 0 and filled.max() <= 1
    assert filters.fill(image[..., 0], known).shape == (40, 40)


def test_a_polygon_covers_its_area():
    square = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    assert abs(filters.polygon(square, 80).mean() - 0.25) < 0.02
    assert filters.shrink(filters.grow(filters.polygon(square, 80), 5), 5).sum() == filters.polygon(square, 80).sum()
