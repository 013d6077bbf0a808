import torch
from torch.testing import assert_close

from modules.rendering.lookup import look_up, plane_table
from modules.rendering.planes import mean_features, sample_planes


def test_the_fast_lookup_equals_grid_sample_with_gradients(generator):
    points = torch.rand(2, 300, 3, generator=generator) * 1.3 - 0.65  # some outside the box
    reference = torch.randn(2, 3, 5, 7, 7, generator=generator).requires_grad_()
    fast = reference.detach().clone().requires_grad_()
    values = [mean_features(fast, points, 1.0), sample_planes(reference, points, 1.0).mean(dim=1)]
    assert_close(*values)
    direction = torch.randn(values[0].shape, generator=generator)
    for value in values:
        value.backward(direction)
    assert_close(fast.grad, reference.grad)


def test_width_and_height_may_differ(generator):
    planes = torch.randn(1, 1, 2, 4, 9, generator=generator)
    coordinates = torch.rand(1, 2, 1, 40, generator=generator) * 2.4 - 1.2
    grid = coordinates[:, :, 0].mT[:, None]  # [1, 1, 40, 2]
    expected = torch.nn.functional.grid_sample(planes[:, 0], grid, align_corners=False)[0, :, 0].t()
    assert_close(look_up(plane_table(planes), coordinates)[0], expected)


def test_points_far_outside_read_zero():
    coordinates = torch.tensor([-1e6, 1e6, 3.0]).expand(1, 2, 1, 3)
    assert (look_up(plane_table(torch.ones(1, 1, 2, 4, 4)), coordinates) == 0).all()
