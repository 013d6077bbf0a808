import dataclasses

import pytest
import torch
from torch.testing import assert_close

from modules.portrait.image_to_plane import ImageToPlane, ImageToPlaneConfig, coordinate_channels, flip_planes

# fmt: off
TINY = ImageToPlaneConfig(
    input_size=32, plane_channels=4, encoder_widths=(8, 8, 8, 8), encoder_blocks=(1, 1, 1, 1), pyramid_channels=4,
    pyramid_dilations=(1, 2), vit_width=16, vit_blocks=1, vit_heads=2, vit_channels=4, low_channels=4, high_first=4,
    high_channels=4, high_layers=1, predictor_channels=(8, 4), predictor_width=16, predictor_heads=2)
# fmt: on


def count(config: ImageToPlaneConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ImageToPlane(config).parameters())


@pytest.mark.parametrize("depth", [1, 3])
def test_planes_have_half_the_size_of_the_image(depth):
    model = ImageToPlane(dataclasses.replace(TINY, plane_depth=depth)).eval()
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3, 4 * depth, 16, 16)


def test_every_parameter_learns():
    model = ImageToPlane(TINY)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_coordinates_count_rows_then_columns():
    rows, columns = coordinate_channels(torch.zeros(1, 3, 4, 4))[0]
    assert_close(rows[:, 0], torch.tensor([0.0, 0.25, 0.5, 0.75]))
    assert_close(columns, rows.t())


def test_the_third_plane_is_also_mirrored():
    planes = torch.arange(12.0).view(1, 3, 1, 2, 2)
    flipped = flip_planes(planes)
    assert_close(flipped[0, 0, 0], torch.tensor([[2.0, 3.0], [0.0, 1.0]]))
    assert_close(flipped[0, 2, 0], torch.tensor([[11.0, 10.0], [9.0, 8.0]]))


def test_alpha_defaults_to_where_the_image_is_not_black():
    model = ImageToPlane(dataclasses.replace(TINY, input_mode="rgb_alpha"))
    image = torch.full((1, 3, 32, 32), -1.0)
    image[..., 8:, :] = 0.0
    alpha = model.network_input(image)[0, 3]
    assert (alpha[:8] == 0).all() and (alpha[8:] == 1).all()


def test_an_encoder_too_narrow_for_some_processors_is_refused():
    with pytest.raises(ValueError, match=r"\[4, 8, 8, 8\].*at least 8"):
        dataclasses.replace(TINY, encoder_widths=(4, 8, 8, 8))


def test_a_camera_mode_needs_its_camera():
    with pytest.raises(ValueError, match="rgb_camera needs the camera"):
        ImageToPlane(dataclasses.replace(TINY, input_mode="rgb_camera"))(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("size", [(32, 48), (40, 40)])
def test_other_shapes_are_refused_with_their_size(size):
    with pytest.raises(ValueError, match=f"{size[1]}x{size[0]}"):
        ImageToPlane(TINY)(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("scale", "parameters"), [("small", 62_071_904), ("standard", 87_332_960), ("large", 154_670_176)]
)
def test_the_original_scales_have_the_original_sizes(scale, parameters):
    assert count(ImageToPlaneConfig.full(scale)) == parameters


@pytest.mark.parametrize(("scale", "millions"), [("paper_small", 40), ("paper_large", 200)])
def test_the_scales_of_the_paper_have_its_sizes(scale, millions):
    assert count(ImageToPlaneConfig.full(scale)) / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_demo_is_small():
    assert 1_500_000 < count(ImageToPlaneConfig.demo()) < 3_000_000


def test_bfloat16_runs_by_hand_and_by_autocast(generator):
    torch.manual_seed(0)
    model, image = ImageToPlane(TINY).eval(), torch.randn(1, 3, 32, 32, generator=generator)
    exact = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = model(image)
    manual = model.bfloat16()(image.bfloat16())
    for planes in (automatic, manual):
        assert_close(planes.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0)
