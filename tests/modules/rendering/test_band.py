from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from modules.geometry.camera import Camera, pose_camera
from modules.rendering.band import Colours, NeededColours, coarse_resolution, needed_samples
from modules.rendering.renderer import RendererConfig, VolumeRenderer

FULL = RendererConfig(plane_channels=4, hidden_channels=16, samples_coarse=24, samples_fine=0)
RESOLUTION = 48


def ball_renderer(config: RendererConfig) -> VolumeRenderer:
    """Density rises where the first feature does, colours follow the others."""
    torch.manual_seed(0)
    renderer = VolumeRenderer(config)
    renderer.decoder.pass_through(0, 0, 1.0)
    for channel in (1, 2, 3):
        renderer.decoder.pass_through(channel, channel, 4.0)
    return renderer


def ball_planes(radius: float = 0.25, layers: int = 1) -> torch.Tensor:
    """A ball (a sum of squares over the planes) of random colours; with two layers a tile stands before it."""
    at = (torch.arange(64) + 0.5) / 64 - 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    planes = torch.randn(1, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    planes[:, 0, 0] = 6000 * (radius**2 - x**2 - y**2)
    planes[:, 1, 0] = -3000 * at[:, None] ** 2  # z runs along the height of the second plane
    planes[:, 2, 0] = -3000 * at[None] ** 2  # and along the width of the third
    if layers == 2:
        planes[:, 1, 0] += 1500 * ((y > 0.38) & (y < 0.46) & (x.abs() < 0.15))
    return planes


def views() -> Camera:
    angles = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.6, 0.0], [-0.3, -0.4, 0.1]])
    return pose_camera(angles, torch.zeros(3, 3))


@pytest.mark.parametrize("fine", [0, 12])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_band_gives_the_picture_of_the_full_march(fine: int, layers: int) -> None:
    config = replace(FULL, samples_fine=fine)
    planes = ball_planes(layers=layers)
    full, band = (
        ball_renderer(replace(config, march=march))(planes, views(), RESOLUTION) for march in ("full", "band")
    )
    assert 0.05 < full.weights.mean() < 0.8  # something, and something beside it
    error = (band.feature - full.feature).square().mean() / 4
    assert -10 * torch.log10(error) > 55
    assert (band.weights - full.weights).abs().max() < 0.05


def test_the_band_evaluates_few_samples() -> None:
    evaluated = []
    renderer = ball_renderer(replace(FULL, march="band"))
    renderer.decoder.net[0].register_forward_hook(lambda module, given, made: evaluated.append(made.shape[:-1].numel()))
    renderer(ball_planes(), views(), RESOLUTION)
    assert sum(evaluated) < 0.35 * 3 * RESOLUTION**2 * FULL.samples_coarse


def test_coarse_rays_cost_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    renderer, planes = ball_renderer(replace(FULL, march="band")), ball_planes()
    renderer.decoder.net[2].register_forward_hook(lambda module, given, made: shapes.append(tuple(made.shape)))
    rendered = renderer(planes, views(), RESOLUTION)
    assert shapes[0] == (3, coarse_resolution(RESOLUTION) ** 2 * FULL.samples_coarse, 1)
    assert [shape[-1] for shape in shapes[1:]] == 3 * [1 + FULL.plane_channels]  # the bands of the views
    monkeypatch.setattr(renderer, "density", lambda planes, points: renderer.query(planes, points)[0])
    assert_close(rendered.feature, renderer(planes, views(), RESOLUTION).feature, atol=1e-6, rtol=0)


def test_a_batch_gives_what_single_views_give() -> None:
    renderer, planes = ball_renderer(replace(FULL, march="band")), ball_planes()
    together = renderer(planes, views(), RESOLUTION)
    for index in range(3):
        alone = renderer(planes, Camera.from_vector(views().vector()[index, None]), RESOLUTION)
        assert_close(together.feature[index, None], alone.feature, atol=1e-5, rtol=1e-5)


def test_random_samples_are_marched_in_full() -> None:
    planes = ball_planes()
    full, band = (
        ball_renderer(replace(FULL, march=march))(planes, views(), 12, torch.Generator().manual_seed(0)).feature
        for march in ("full", "band")
    )
    assert torch.equal(full, band)


def test_empty_space_is_empty() -> None:
    planes = ball_planes()
    planes[:, :, 0] = -50.0
    rendered = ball_renderer(replace(FULL, march="band"))(planes, views(), RESOLUTION)
    assert (rendered.feature == -1).all() and (rendered.weights == 0).all()


def test_gradients_reach_planes_through_the_band() -> None:
    planes = ball_planes().requires_grad_()
    ball_renderer(replace(FULL, march="band"))(planes, views(), RESOLUTION).feature.square().mean().backward()
    assert planes.grad is not None and planes.grad.abs().sum() > 0


def test_a_band_reaches_from_the_first_to_the_last_matter_of_a_cell_and_its_neighbours() -> None:
    depths = torch.arange(8.0).expand(1, 9, 8)  # 3 x 3 coarse rays
    weights = torch.zeros(1, 9, 7)
    weights[0, 0, 2] = weights[0, 0, 4] = 0.5  # the upper left one, between 2 and 5
    needed = needed_samples(depths, weights, torch.arange(8.0).expand(1, 144, 8)).view(12, 12, 8)
    assert needed[:8, :8].all(dim=(0, 1)).tolist() == [False, True, True, True, True, True, True, False]
    assert not needed[8:].any() and not needed[:, 8:].any()


def test_colours_of_needed_samples_are_summed_as_all_are() -> None:
    generator = torch.Generator().manual_seed(0)
    shares, logits = torch.rand(2, 5, 6, generator=generator), torch.randn(2, 5, 6, 3, generator=generator)
    needed = torch.rand(2, 5, 6, generator=generator) > 0.6
    needed[0, 2] = False
    sparse = NeededColours(logits[needed], needed, needed.flatten().nonzero().squeeze(1)).mean(shares)
    assert_close(sparse, Colours(logits).mean(shares * needed))


def test_small_pictures_have_a_coarse_ray() -> None:
    assert coarse_resolution(3) == 1 and coarse_resolution(96) == 24
