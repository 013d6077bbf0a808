"""A tiny face model: a shallow bowl with two eye holes, smooth random modes, 68 and 468 landmarks."""

import dataclasses

import pytest
import torch

from modules.face3d.bfm import FIT_PRIOR
from modules.face3d.morphable_model import FaceModelData, LandmarkEmbedding, MorphableModel

COLUMNS, ROWS = 25, 29


def grid_triangles(columns: int = COLUMNS, rows: int = ROWS) -> torch.Tensor:
    """Triangles of a grid, counter-clockwise with x right and y up; [F, 3]."""
    index = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([a, c, d], -1).view(-1, 3)])


def face_data() -> FaceModelData:
    """Like a model of aligned scans: no mode turns, moves or scales the face, so that landmarks tell its pose."""
    loose = loose_data()
    centred = loose.mean - loose.mean.mean(dim=0)
    axes = torch.eye(3)
    turns = [torch.cross(axis.expand_as(centred), centred, dim=-1) for axis in axes]
    motions = torch.stack([*turns, *(axis.expand_as(centred) for axis in axes), centred], dim=-1)  # [V, 3, 7]
    basis = torch.linalg.qr(motions.flatten(0, 1).double()).Q  # [3V, 7]

    def aligned(modes: torch.Tensor) -> torch.Tensor:
        flat = modes.flatten(0, 1).double()
        return (flat - basis @ (basis.T @ flat)).view_as(modes).float()

    return dataclasses.replace(
        loose, identity_basis=aligned(loose.identity_basis), expression_basis=aligned(loose.expression_basis)
    )


def loose_data() -> FaceModelData:
    """Modes that imitate a turn, a shift and a scale of the face nearly freely: only priors tell its pose."""
    generator = torch.Generator().manual_seed(0)
    heights, widths = torch.linspace(-0.95, 0.95, ROWS), torch.linspace(-0.75, 0.75, COLUMNS)
    y, x = torch.meshgrid(heights, widths, indexing="ij")
    z = 0.4 - 0.5 * x**2 - 0.3 * y**2 + 0.2 * torch.exp(-20 * (x**2 + y**2))
    mean = torch.stack([x, y, z], dim=-1).view(-1, 3)
    waves = [torch.sin(k * mean[:, axis] + k) for axis in range(3) for k in range(1, 7)]
    features = torch.stack(waves, dim=1)
    bases = [
        torch.einsum("vf,fck->vck", features, 0.01 * torch.randn(18, 3, size, generator=generator)) for size in (80, 64)
    ]
    triangles = grid_triangles()
    centres = mean[triangles].mean(dim=1)
    eyes = ((centres[:, :2].abs() - torch.tensor([0.3, 0.3])).abs() < torch.tensor([0.12, 0.06])).all(dim=1)
    eyes &= centres[:, 1] > 0
    chosen = torch.randint(len(triangles), (468,), generator=generator)
    weights = torch.rand(468, 3, generator=generator)
    landmarks = {
        68: LandmarkEmbedding.of_vertices(torch.arange(0, 680, 10)),
        468: LandmarkEmbedding(
            triangles[chosen], weights / weights.sum(1, keepdim=True), torch.ones(468, dtype=torch.bool)
        ),
    }
    return FaceModelData(
        name="bfm",
        mean=mean,
        identity_basis=bases[0],
        expression_basis=bases[1],
        triangles=triangles,
        pncc_triangles=triangles[~eyes],
        landmarks=landmarks,
        fit_prior=FIT_PRIOR,
    )


@pytest.fixture(scope="session")
def face_model() -> MorphableModel:
    return MorphableModel(face_data())


@pytest.fixture(scope="session")
def loose_model() -> MorphableModel:
    return MorphableModel(loose_data())
