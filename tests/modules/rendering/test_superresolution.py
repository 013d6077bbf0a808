"""Super-resolution."""

import pytest
import torch

from modules.layers.resample import resize
from modules.layers.stylegan import upsample_2x
from modules.rendering.superresolution import (
    Superresolution,
    SuperresolutionConfig,
    as_upscaling,
    is_untrained,
    is_upscaling,
)
from tests.golden.compare import relative_error
from tests.modules.portrait.htbsr.conftest import SUPERRESOLUTION


def test_the_image_has_four_times_the_size(generator: torch.Generator) -> None:
    model = Superresolution(SUPERRESOLUTION)
    feature = torch.randn(2, 6, 8, 8, generator=generator)
    assert model(feature[:, :3], feature).shape == (2, 3, 32, 32)


def test_other_render_sizes_are_resized_first(generator: torch.Generator) -> None:
    model, feature = Superresolution(SUPERRESOLUTION), torch.randn(1, 6, 16, 16, generator=generator)
    small = resize(feature, 8)
    assert torch.equal(model(feature[:, :3], feature), model(small[:, :3], small))


def test_scale_two_keeps_the_resolution_in_the_first_block(generator: torch.Generator) -> None:
    config = SuperresolutionConfig(
        resolution=8, feature_channels=4, middle_channels=4, output_channels=4, w_dim=3, scale=2
    )
    feature = torch.randn(1, 4, 8, 8, generator=generator)
    assert Superresolution(config)(feature[:, :3], feature).shape == (1, 3, 16, 16)


def test_only_the_last_style_counts(generator: torch.Generator) -> None:
    model, feature = Superresolution(SUPERRESOLUTION), torch.randn(2, 6, 8, 8, generator=generator)
    ws = torch.randn(2, 5, 4, generator=generator)
    assert torch.equal(model(feature[:, :3], feature, ws), model(feature[:, :3], feature, ws[:, -1:]))


@pytest.mark.parametrize("change", [{"scale": 8}, {"resolution": 2}])
def test_impossible_configs_are_refused_with_the_value(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        SuperresolutionConfig(**change)


@torch.no_grad()
def test_styles_become_constants_without_a_change_of_the_image(generator: torch.Generator) -> None:
    feature, w = torch.randn(2, 6, 8, 8, generator=generator), torch.randn(4, generator=generator)
    model = Superresolution(SUPERRESOLUTION)
    styled, before = model(feature[:, :3], feature, w.expand(1, 1, 4)), model(feature[:, :3], feature)
    model.make_constant(w)
    constant = model(feature[:, :3], feature)
    assert relative_error(constant, styled) < 1e-5 < relative_error(before, styled)


@torch.no_grad()
def test_untrained_weights_are_told_from_trained_ones_and_made_to_upscale(generator: torch.Generator) -> None:
    model, feature = Superresolution(SUPERRESOLUTION), torch.randn(2, 6, 8, 8, generator=generator)
    colours = upsample_2x(upsample_2x(feature[:, :3]))
    assert not is_upscaling(model.state_dict()) and relative_error(model(feature[:, :3], feature), colours) > 0.1
    assert is_untrained(model.state_dict())
    model.load_state_dict(as_upscaling(model.state_dict()))
    assert is_upscaling(model.state_dict()) and relative_error(model(feature[:, :3], feature), colours) < 1e-5


def test_one_step_of_training_makes_weights_trained(generator: torch.Generator) -> None:
    model, feature = Superresolution(SUPERRESOLUTION), torch.randn(2, 6, 8, 8, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(feature[:, :3], feature).square().mean().backward()
    optimizer.step()
    assert not is_untrained(model.state_dict())
