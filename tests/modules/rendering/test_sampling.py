import torch
from torch.testing import assert_close

from modules.rendering.sampling import importance_depths, smooth_weights, stratified_depths


def test_without_jitter_samples_run_from_near_to_far():
    depths = stratified_depths(torch.tensor([2.0]), torch.tensor([3.0]), torch.zeros(5))
    assert_close(depths, torch.linspace(2, 3, 5))


def test_every_sample_stays_in_its_own_stratum(generator):
    jitter = torch.rand(100, 8, generator=generator)
    depths = stratified_depths(torch.zeros(100, 1), torch.full((100, 1), 7.0), jitter)
    assert (depths.floor() == torch.arange(8)).all()


def test_smoothed_weights_take_the_larger_neighbour():
    assert_close(
        smooth_weights(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])), torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0]) + 0.01
    )


def test_fine_samples_gather_where_the_weight_is():
    depths = torch.linspace(2, 3, 32)
    weights = torch.zeros(31)
    weights[15] = 1.0
    fine = importance_depths(depths, weights, (torch.arange(64) + 0.5) / 64)
    inside = (fine - depths[15:17].mean()).abs() < 0.1
    assert inside.float().mean() > 0.7


def test_equal_weights_give_evenly_spread_samples():
    depths = torch.linspace(0, 1, 34)
    fine = importance_depths(depths, torch.ones(33), (torch.arange(20) + 0.5) / 20)
    steps = fine.diff()
    assert_close(steps, steps.mean().expand_as(steps), atol=1e-5, rtol=0)


def test_fine_samples_carry_no_gradient():
    weights = torch.rand(2, 7, requires_grad=True)
    assert not importance_depths(torch.linspace(0, 1, 8).expand(2, 8), weights, torch.rand(2, 4)).requires_grad
