import torch
from torch.testing import assert_close

from modules.rendering.planes import (
    Decoder,
    colours,
    mean_features,
    plane_coordinates,
    rescale_planes,
    sample_planes,
)
from tests.golden.compare import relative_error


def test_planes_are_read_at_xy_xz_and_zx():
    point = torch.tensor([[[0.1, 0.2, 0.3]]])
    assert_close(
        plane_coordinates(point, 2.0)[0, :, 0], torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2], [0.3, 0.1, 0.2]])
    )


def test_a_ramp_is_read_as_its_coordinate(generator):
    ramp = (torch.arange(8) + 0.5) / 4 - 1  # value = coordinate along the width
    planes = ramp.expand(1, 3, 1, 8, 8)
    points = torch.rand(1, 20, 3, generator=generator) * 0.8 - 0.4
    assert_close(sample_planes(planes, points, 1.0)[0, 1, :, 0], 2 * points[0, :, 0])


def test_outside_the_box_there_is_nothing():
    points = torch.tensor([[[0.7, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    values = mean_features(torch.ones(1, 3, 2, 8, 8), points, 1.0)
    assert_close(values[0, :, 0], torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


def test_a_tri_grid_of_one_slice_fades_towards_its_faces():
    points = torch.tensor([[[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]]])
    values = sample_planes(torch.ones(1, 3, 2, 1, 8, 8), points, 1.0)
    assert_close(values[0, 0, :, 0], torch.tensor([0.5, 1.0]))


def test_folding_the_planes_changes_nothing(generator):
    points = torch.rand(2, 50, 3, generator=generator) * 1.2 - 0.6
    for shape in ((2, 3, 4, 6, 6), (2, 3, 4, 3, 6, 6)):
        planes = torch.randn(shape, generator=generator)
        assert_close(mean_features(planes, points, 1.0), sample_planes(planes, points, 1.0).mean(dim=1))


def test_exported_models_look_up_by_grid_sample(generator):
    class Mean(torch.nn.Module):
        def forward(self, planes, points):
            return mean_features(planes, points, 1.0)

    planes = torch.randn(1, 3, 4, 6, 6, generator=generator)
    points = torch.rand(1, 20, 3, generator=generator) - 0.5
    program = torch.export.export(Mean(), (planes, points))
    assert "grid_sampler" in program.graph_module.code and "embedding_bag" not in program.graph_module.code
    assert_close(program.module()(planes, points), mean_features(planes, points, 1.0))


def test_colours_are_bounded_and_density_is_not():
    decoder = Decoder(4, 8)
    sigma, logits = decoder(100 * torch.randn(50, 4))
    assert sigma.shape == (50, 1) and logits.shape == (50, 4)
    assert colours(logits).min() >= -0.0011 and colours(logits).max() <= 1.0011


def test_density_alone_is_the_density_beside_the_colours(generator):
    decoder = Decoder(24, 32)
    decoder.amplify(10.0, 3.0)
    features = torch.randn(2, 5000, 24, generator=generator)
    with torch.no_grad():
        assert relative_error(decoder.density(features), decoder(features)[0]) < 1e-6


def test_density_alone_reaches_the_same_weights(generator):
    decoder = Decoder(4, 8)
    features = torch.randn(50, 4, generator=generator)
    expected = torch.autograd.grad(decoder(features)[0].square().sum(), list(decoder.parameters()))
    gradients = torch.autograd.grad(decoder.density(features).square().sum(), list(decoder.parameters()))
    for gradient, value in zip(gradients, expected):
        assert_close(gradient, value)


def test_a_decoder_can_start_by_passing_features_through(generator):
    decoder = Decoder(6, 12)
    other = decoder.net[2].weight[2].clone()
    decoder.pass_through(0, 1, 2.0)
    decoder.pass_through(3, 0, 50.0)
    features = 3 * torch.randn(2, 20, 6, generator=generator)
    with torch.no_grad():
        density, logits = decoder(features)
    assert_close(density[..., 0], 50 * features[..., 3], atol=1e-3, rtol=1e-4)
    assert_close(logits[..., 0], 2 * features[..., 0], atol=1e-4, rtol=1e-4)
    assert (decoder.net[2].weight[2] == other).all()  # other outputs keep their weights


def test_planes_are_rescaled_to_every_side_from_the_least_to_their_own():
    planes = torch.zeros(1, 3, 2, 9, 9)
    sides = [rescale_planes(planes, 0.5, (k + 0.5) / 60).shape[-1] for k in range(60)]
    assert sides == sorted(sides)
    assert {side: sides.count(side) for side in sides} == dict.fromkeys(range(4, 10), 10)  # from the floor of 4.5 to 9


def test_rescaled_planes_are_bilinear_samples_of_the_planes(generator):
    planes = torch.randn(2, 3, 6, 8, 8, generator=generator)  # tri-grids of two or three slices too
    torch.testing.assert_close(rescale_planes(planes, 0.5, 0.999), planes)
    quarters = planes.unfold(-1, 2, 2).unfold(-3, 2, 2).mean(dim=(-1, -2))
    torch.testing.assert_close(rescale_planes(planes, 0.5, 0.0), quarters)
    assert rescale_planes(planes.bfloat16(), 0.5, 0.0).dtype == torch.float32
