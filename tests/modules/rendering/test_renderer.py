from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from modules.geometry.camera import Camera
from modules.rendering.renderer import RayNoise, RendererConfig, VolumeRenderer

TINY = {"plane_channels": 4, "hidden_channels": 8, "samples_coarse": 8, "samples_fine": 6}


@pytest.fixture
def planes() -> torch.Tensor:
    return torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def tiny(**changes) -> VolumeRenderer:
    torch.manual_seed(0)
    return VolumeRenderer(RendererConfig(**{**TINY, **changes}))


def both(first: Camera, second: Camera) -> Camera:
    return Camera.from_vector(torch.cat([first.vector(), second.vector()]))


def test_images_have_the_promised_shapes(planes, frontal_camera):
    output = tiny()(planes, frontal_camera, 5)
    assert output.feature.shape == (1, 4, 5, 5)
    assert output.depth.shape == output.weights.shape == (1, 1, 5, 5)


def test_rays_that_miss_give_minus_one_weight_zero_and_the_far_depth(planes, lost_camera):
    output = tiny()(planes, lost_camera, 3)
    assert (output.feature == -1).all() and (output.weights == 0).all()
    assert (output.depth > torch.linalg.vector_norm(lost_camera.camera_to_world[:, :3, 3])).all()


def test_a_sample_does_not_depend_on_the_rest_of_its_batch(planes, frontal_camera, lost_camera):
    renderer = tiny()
    alone = renderer(planes, frontal_camera, 4)
    together = renderer(planes, both(frontal_camera, lost_camera), 4)
    assert_close(together.depth[:1], alone.depth)
    assert_close(together.feature[:1], alone.feature)


def test_the_official_rule_lets_samples_of_a_batch_meet(planes, frontal_camera, lost_camera):
    output = tiny(missing_rays="official")(planes, both(frontal_camera, lost_camera), 4)
    assert (output.depth[1] < 2.7).all()  # limits of the other camera's rays


def test_without_a_generator_frames_are_equal_and_with_one_they_follow_its_seed(planes, frontal_camera):
    renderer = tiny()

    def render(seed: int | None) -> torch.Tensor:
        source = None if seed is None else torch.Generator().manual_seed(seed)
        return renderer(planes, frontal_camera, 4, source).feature

    assert torch.equal(render(None), render(None))
    assert torch.equal(render(3), render(3))
    assert not torch.equal(render(3), render(4))


def test_the_fine_pass_can_be_left_out(planes, frontal_camera):
    renderer = tiny(samples_fine=0, samples_coarse=12)
    output = renderer(planes, frontal_camera, 4, torch.Generator().manual_seed(0))
    assert torch.isfinite(output.feature).all() and output.weights.max() <= 1 + 1e-5


def test_a_solid_box_is_seen_at_its_front_face(planes, frontal_camera):
    renderer = tiny(samples_coarse=64)
    with torch.no_grad():
        renderer.decoder.net[2].bias[0] = 500.0
    output = renderer(planes, frontal_camera, 4)
    assert_close(output.weights, torch.ones(1, 1, 4, 4), atol=1e-3, rtol=0)
    assert ((output.depth - 2.2).abs() < 0.05).all()


def test_fine_samples_find_the_surface_better_than_coarse_ones(frontal_camera):
    """A slab of matter: the two-pass depth is nearer to that of 256 samples than the one-pass depth."""
    grid = torch.zeros(1, 3, 4, 32, 32)
    grid[:, 0] = -1.0
    grid[:, 1, :, 10:20] = 4.0
    renderers = {
        key: tiny(samples_coarse=n, samples_fine=m)
        for key, n, m in (("one", 10, 0), ("two", 10, 20), ("reference", 256, 0))
    }
    state = renderers["one"].state_dict()
    state["decoder.net.0.weight"] = torch.ones(8, 4)
    state["decoder.net.2.weight"][0], state["decoder.net.2.bias"][0] = 6.0, -20.0  # empty outside the slab
    depths = {}
    for key, renderer in renderers.items():
        renderer.load_state_dict(state)
        depths[key] = renderer(grid, frontal_camera, 6).depth
    error = {key: (depths[key] - depths["reference"]).abs().mean() for key in ("one", "two")}
    assert error["two"] < 0.5 * error["one"]


@pytest.mark.parametrize("depth", [1, 2])
def test_gradients_reach_planes_and_decoder(depth, frontal_camera):
    renderer = tiny(plane_depth=depth)
    planes = torch.randn(1, 3, 4 * depth, 8, 8, requires_grad=True)
    output = renderer(planes, frontal_camera, 4, torch.Generator().manual_seed(0))
    (output.feature.square().mean() + output.depth.mean() + output.weights.mean()).backward()
    assert planes.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 and torch.isfinite(p.grad).all() for p in renderer.parameters())


def test_density_is_what_the_rays_see(planes, frontal_camera):
    renderer = tiny(samples_fine=0)
    origins, directions = frontal_camera.camera_to_world[:, None, :3, 3], torch.tensor([[[0.0, 0.0, -1.0]]])
    result = renderer.render_rays(planes, origins, directions, RayNoise.centred(renderer.config, planes.device))
    points = origins + directions * result.coarse_depths[0, 0][:, None]
    assert_close(renderer.density(planes, points)[0, :, 0], result.sigma[0, 0])


def test_white_background_fills_what_the_rays_missed(planes, lost_camera):
    assert (tiny(white_background=True)(planes, lost_camera, 3).feature == 1).all()


def test_fixed_limits_set_the_depths(planes, frontal_camera):
    renderer = tiny(fixed_limits=(2.25, 3.3))
    origins, directions = frontal_camera.camera_to_world[:, None, :3, 3], torch.tensor([[[0.0, 0.0, -1.0]]])
    noise = RayNoise(jitter=torch.zeros(8), importance=torch.rand(6))
    depths = renderer.render_rays(planes, origins, directions, noise).coarse_depths
    assert_close(depths[0, 0], torch.linspace(2.25, 3.3, 8))


def test_bfloat16_stays_close_to_float32(planes, frontal_camera):
    renderer = tiny()
    exact = renderer(planes, frontal_camera, 6)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = renderer(planes.bfloat16(), frontal_camera, 6)
    manual = renderer.bfloat16()(planes.bfloat16(), frontal_camera, 6)
    for output in (automatic, manual):
        assert output.feature.dtype == output.depth.dtype == torch.float32
        assert_close(output.feature, exact.feature, atol=0.05, rtol=0)
        assert_close(output.depth, exact.depth, atol=0.02, rtol=0)


def test_bad_settings_are_refused_with_the_number():
    with pytest.raises(ValueError, match="samples_coarse is 3"):
        RendererConfig(samples_coarse=3)
    with pytest.raises(ValueError, match="least_plane_scale is 0"):
        RendererConfig(least_plane_scale=0)
    with pytest.raises(ValueError, match="'sometimes'"):
        RendererConfig(missing_rays="sometimes")


def test_initial_gains_make_the_first_densities_and_colours_larger_alone():
    models = []
    for gains in ((1.0, 1.0), (10.0, 3.0)):
        torch.manual_seed(0)
        models.append(VolumeRenderer(RendererConfig(plane_channels=4, hidden_channels=8, initial_gains=gains)))
    features = torch.randn(5, 4)
    (sigma, logits), (larger_sigma, larger_logits) = (model.decoder(features) for model in models)
    torch.testing.assert_close(larger_sigma, 10 * sigma)
    torch.testing.assert_close(larger_logits, 3 * logits)


def test_planes_are_rescaled_apart_for_either_pass_where_samples_are_random(planes, frontal_camera, monkeypatch):
    renderer, sides = tiny(least_plane_scale=0.5), []
    query = renderer.query
    monkeypatch.setattr(
        renderer, "query", lambda read, points: sides.append(read.planes.shape[-1]) or query(read, points)
    )
    exact = renderer(planes, frontal_camera, 4)
    assert sides == [8, 8] and torch.equal(exact.feature, tiny()(planes, frontal_camera, 4).feature)
    sides.clear()
    for seed in range(30):
        renderer(planes, frontal_camera, 2, torch.Generator().manual_seed(seed))
    assert set(sides[::2]) == set(sides[1::2]) == {4, 5, 6, 7, 8}
    assert sides[::2] != sides[1::2]


def test_rescaling_leaves_the_other_random_numbers_as_they_were():
    config = RendererConfig(**TINY)
    plain, rescaled = (
        RayNoise.draw(replace(config, least_plane_scale=scale), 2, 3, torch.Generator().manual_seed(0), "cpu")
        for scale in (1.0, 0.5)
    )
    assert torch.equal(plain.jitter, rescaled.jitter) and torch.equal(plain.importance, rescaled.importance)
    assert plain.resolutions is None and len(rescaled.resolutions) == 2


def test_planes_get_gradients_through_their_rescaling(planes, frontal_camera):
    planes = planes.requires_grad_()
    tiny(least_plane_scale=0.5)(planes, frontal_camera, 4, torch.Generator().manual_seed(0)).feature.sum().backward()
    assert planes.grad.abs().sum() > 0
