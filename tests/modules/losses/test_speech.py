import pytest
import torch
from torch.testing import assert_close

from modules.losses import speech as losses


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.ones(2, 10)
    mask[1, 6:] = 0
    return mask


def test_a_straight_movement_has_no_laplacian_wherever_the_clip_ends(mask, generator):
    x = torch.arange(10.0)[None, :, None] * torch.randn(2, 1, 3, generator=generator) + 5
    assert losses.laplacian(x, mask) < 1e-10
    assert losses.laplacian(x * mask[..., None], mask) < 1e-10
    assert losses.laplacian_zero_ends(x, mask) > 1  # the official form pulls the ends to zero


def test_the_laplacian_sees_trembling(mask):
    x = torch.zeros(2, 10, 3)
    x[:, 1::2] = 1
    assert_close(losses.laplacian(x, mask), torch.tensor(1.0))


def test_masked_frames_do_not_count(mask):
    target, prediction = torch.zeros(2, 10, 3), torch.ones(2, 10, 3)
    prediction[1, 6:] = 100
    assert_close(losses.mean_square(prediction, target, mask), torch.tensor(1.0))
    assert_close(losses.magnitude(prediction, mask), torch.tensor(1.0))


def test_an_error_of_the_lips_costs_more_than_one_of_the_cheek():
    target = torch.zeros(1, 4, 1404)
    lip, cheek = target.clone(), target.clone()
    lip[..., 13 * 3], cheek[..., 50 * 3] = 1, 1
    of_lip, of_cheek = (losses.landmark_square(points, target, torch.ones(1, 4)) for points in (lip, cheek))
    ratio = of_lip / of_cheek
    assert_close(ratio, torch.tensor(5.0))
    with pytest.raises(ValueError, match="70"):
        losses.motion_weights(70)


def test_lips_that_should_meet_cost_as_far_as_they_stand_apart():
    upper, lower = 13 * 3 + 1, 14 * 3 + 1
    target = torch.zeros(2, 10, 1404)
    target[:, :, upper] = 2.0  # open
    target[:, 3:5, upper] = 0.1  # closed
    target[1, 8:, lower] = 5.0  # padding, in which the lips seem to cross
    mask = torch.ones(2, 10)
    mask[1, 8:] = 0
    assert losses.closure(target, target, mask) == 0
    made = target.clone()
    made[:, :, upper] += 0.5
    assert_close(losses.closure(made, target, mask), torch.tensor(0.25))
    made = target.clone()
    made[:, 5:, upper] += 9  # where they are open anyway
    made[:, 3:5, lower] += 0.05  # closer than they were
    assert losses.closure(made, target, mask) == 0


def test_the_two_divergences_agree_without_a_flow():
    random = torch.Generator().manual_seed(0)
    mean, log_scale = torch.randn(2, 4, 5000, generator=random), torch.full((2, 4, 5000), -0.3)
    latent = mean + log_scale.exp() * torch.randn(2, 4, 5000, generator=random)
    mask = torch.ones(2, 1, 5000)
    sampled = losses.kl_flow(mean, log_scale, latent, latent, mask)
    assert_close(sampled, losses.kl_normal(mean, log_scale, mask), rtol=0.03, atol=0.0)


def test_no_valid_pair_costs_nothing():
    assert losses.mean_where(torch.tensor([3.0, 4.0]), torch.zeros(2)) == 0


def test_the_divergence_weight_rises_and_starts_again():
    weights = [losses.kl_weight(step, 0.02, rise=100, hold=50) for step in (0, 50, 100, 149, 150)]
    assert weights == pytest.approx([0, 0.01, 0.02, 0.02, 0])
