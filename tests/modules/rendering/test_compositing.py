import torch
from torch.testing import assert_close

from modules.rendering.compositing import expected_depth, interval_weights, sample_weights


def test_weights_are_shares(generator):
    depths = torch.rand(10, 9, generator=generator).sort(dim=-1).values
    weights = interval_weights(depths, 5 * torch.randn(10, 9, generator=generator))
    assert (weights >= 0).all() and (weights.sum(dim=-1) <= 1 + 1e-6).all()


def test_weights_equal_the_product_of_what_earlier_intervals_let_through(generator):
    depths = torch.rand(3, 6, generator=generator).sort(dim=-1).values
    sigma = 3 * torch.randn(3, 6, generator=generator)
    density = torch.nn.functional.softplus((sigma[:, 1:] + sigma[:, :-1]) / 2 - 1)
    alpha = 1 - torch.exp(-density * depths.diff(dim=-1))
    expected = [alpha[:, k] * (1 - alpha[:, :k]).prod(dim=-1) for k in range(5)]
    assert_close(interval_weights(depths, sigma), torch.stack(expected, dim=-1))


def test_an_opaque_wall_hides_what_is_behind_it():
    weights = interval_weights(torch.linspace(0, 1, 6), torch.tensor([-50.0, -50.0, 2e4, 2e4, 2e4, 2e4]))
    assert_close(weights, torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))


def test_sample_weights_sum_like_interval_means(generator):
    weights, values = torch.rand(4, 7, generator=generator), torch.rand(4, 8, generator=generator)
    middle = (values[:, 1:] + values[:, :-1]) / 2
    assert_close((sample_weights(weights) * values).sum(dim=-1), (weights * middle).sum(dim=-1))


def test_depth_of_a_wall_and_of_nothing():
    depths = torch.linspace(2, 3, 5).expand(2, 5)
    weights = torch.tensor([[0.0, 0.0, 0.9, 0.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    depth = expected_depth(weights, depths, depths[:, :1], torch.tensor([[3.2], [3.2]]))
    assert_close(depth, torch.tensor([[2.625], [3.2]]))
    depth.sum().backward()
    assert torch.isfinite(weights.grad).all()
