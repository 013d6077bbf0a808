import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from modules.metrics.distribution import FeatureStatistics, frechet_distance


def statistics(features: torch.Tensor, *parts: int) -> FeatureStatistics:
    result = FeatureStatistics(features.shape[1])
    for part in features.split(list(parts) or len(features)):
        result.update(part)
    return result


def test_batches_give_what_the_whole_set_gives(generator):
    features = torch.randn(60, 5, generator=generator) * torch.arange(1, 6) + 100
    streamed = statistics(features, 1, 20, 9, 30)
    torch.testing.assert_close(streamed.mean, features.double().mean(dim=0))
    torch.testing.assert_close(streamed.covariance, torch.cov(features.double().T))
    halves = statistics(features[:25])
    halves.merge(statistics(features[25:]))
    torch.testing.assert_close(halves.covariance, streamed.covariance)
    assert halves.count == streamed.count == 60


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, generator: torch.Generator) -> FeatureStatistics:
    """Features whose mean and covariance are exactly these."""
    raw = torch.randn(300, len(mean), generator=generator, dtype=torch.float64)
    raw = raw - raw.mean(dim=0)
    white = torch.linalg.solve(torch.linalg.cholesky(torch.cov(raw.T)), raw.T)
    return statistics((torch.linalg.cholesky(covariance) @ white).T + mean)


def test_two_gaussians_with_equal_axes_have_the_closed_form(generator):
    a, b = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64), torch.tensor([4.0, 4.0, 1.0], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    first = with_moments(torch.zeros(3, dtype=torch.float64), a.diag(), generator)
    second = with_moments(mean, b.diag(), generator)
    expected = float(mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-6)


def test_axes_that_do_not_commute_agree_with_the_matrix_square_root(generator):

    roots = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    a, b = (root @ root.T + 0.1 * torch.eye(4) for root in roots)
    zero = torch.zeros(4, dtype=torch.float64)
    expected = float(np.trace((a + b).numpy() - 2 * sqrtm((a @ b).numpy()).real))
    first, second = with_moments(zero, a, generator), with_moments(zero, b, generator)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_a_set_has_no_distance_to_itself_even_if_it_is_smaller_than_its_features(generator):
    few = statistics(torch.randn(10, 64, generator=generator))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)


def test_few_images_make_the_distance_too_large(generator):
    def distance(count: int) -> float:
        a, b = (statistics(torch.randn(count, 32, generator=generator)) for _ in range(2))
        return frechet_distance(a, b)

    assert distance(40) > 3 * distance(1000)


def test_features_of_another_size_or_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4\); expected finite \[B, 5\]"):
        FeatureStatistics(5).update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="finite"):
        FeatureStatistics(2).update(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="0 features"):
        _ = FeatureStatistics(2).covariance
