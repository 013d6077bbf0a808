"""Frechet distance of two sets of features, FID when they are Inception's; sets are seen batch by batch."""

import torch
from torch import Tensor

ENOUGH = 2048  # images below which FID is biased upwards for certain: the covariance has that many dimensions


class FeatureStatistics:
    """Mean and covariance of features that come in batches, float64.

    Args:
        size: D, length of a feature.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self._mean = torch.zeros(size, dtype=torch.float64)
        self._scatter = torch.zeros(size, size, dtype=torch.float64)  # sum of outer products around the mean

    def update(self, features: Tensor) -> None:
        """Add [B, D] features of any device and type."""
        batch = features.detach().cpu().double()
        if batch.ndim != 2 or batch.shape[1] != len(self._mean) or not batch.isfinite().all():
            raise ValueError(f"features are {tuple(batch.shape)}; expected finite [B, {len(self._mean)}]")
        other = FeatureStatistics(len(self._mean))
        other.count, other._mean = len(batch), batch.mean(dim=0)
        other._scatter = (batch - other._mean).T @ (batch - other._mean)
        self.merge(other)

    def merge(self, other: "FeatureStatistics") -> None:
        """Add the features that another one has seen (Chan and others, 1979)."""
        count = self.count + other.count
        if count == 0:
            return
        step = other._mean - self._mean
        self._scatter += other._scatter + torch.outer(step, step) * (self.count * other.count / count)
        self._mean += step * (other.count / count)
        self.count = count

    @property
    def mean(self) -> Tensor:
        """[D]"""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """[D, D], unbiased; needs two features."""
        if self.count < 2:
            raise ValueError(f"{self.count} features have no covariance")
        return self._scatter / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the Frechet distance of two Gaussians.

    0 or more, lower is better. With the 2048 pool features of Inception-v3 (`networks.load("inception")`) it is FID
    (Heusel and others, 2017). Fewer than 2048 images on either side make it too large: report `count` with it, and
    compare methods at equal counts only.
    """
    root = _square_root(a.covariance)
    eigenvalues = torch.linalg.eigvalsh(root @ b.covariance @ root)  # those of C_a C_b
    trace = a.covariance.trace() + b.covariance.trace() - 2 * eigenvalues.clamp(min=0).sqrt().sum()
    return float(((a.mean - b.mean).square().sum() + trace).clamp(min=0))


def _square_root(matrix: Tensor) -> Tensor:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
