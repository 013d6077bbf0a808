"""Resizing images and the positions of their pixels."""

import pytest
import torch

from modules.layers.resample import pixel_centres, resize
from tests.golden.compare import relative_error


def test_resizing_keeps_brightness_and_type(generator: torch.Generator) -> None:
    image = torch.rand(1, 1, 32, 32, generator=generator)
    assert resize(image, 8).mean().item() == pytest.approx(image.mean().item(), abs=0.03)
    assert resize(image, 32) is image
    assert resize(image.bfloat16(), 8).dtype == torch.bfloat16


def test_plain_resizing_by_two_averages_pixels(generator: torch.Generator) -> None:
    image = torch.rand(1, 2, 8, 8, generator=generator)
    assert relative_error(resize(image, 4, antialias=False), torch.nn.functional.avg_pool2d(image, 2)) < 1e-6


def test_pixel_centres_are_where_resize_has_them() -> None:
    """A picture of its own pixel centres, made smaller, holds the centres of the smaller picture."""
    device = torch.device("cpu")
    smaller = resize(pixel_centres(8, device)[None], 4, antialias=False)[0]
    assert torch.allclose(smaller, pixel_centres(4, device), atol=1e-6)
