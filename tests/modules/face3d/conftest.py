"""A tiny face model: a shallow bowl with two eye holes, smooth random modes, 68 and 468 landmarks."""

import pytest
import torch

from modules.face3d.morphable_model import FaceModelData, LandmarkEmbedding, MorphableModel

COLUMNS, ROWS = 25, 29


def grid_triangles(columns: int = COLUMNS, rows: int = ROWS) -> torch.Tensor:
    """Triangles of a grid, counter-clockwise with x right and y up; [F, 3]."""
    index = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([a, c, d], -1).view(-1, 3)])


def face_data() -> FaceModelData:
    generator = torch.Generator().manual_seed(0)
    heights, widths = torch.linspace(-0.95, 0.95, ROWS), torch.linspace(-0.75, 0.75, COLUMNS)
    y, x = torch.meshgrid(heights, widths, indexing="ij")
    z = 0.4 - 0.5 * x**2 - 0.3 * y**2 + 0.2 * torch.exp(-20 * (x**2 + y**2))
    mean = torch.stack([x, y, z], dim=-1).view(-1, 3)
    waves = [torch.sin(k * mean[:, axis] + k) for axis in range(3) for k in range(1, 7)]
    features = torch.stack(waves, dim=1)
    bases = [torch.einsum("vf,fck->vck", features, 0.01 * torch.randn(18, 3, size, generator=generator))
             for size in (80, 64)]
    triangles = grid_triangles()
    centres = mean[triangles].mean(dim=1)
    eyes = ((centres[:, :2].abs() - torch.tensor([0.3, 0.3])).abs() < torch.tensor([0.12, 0.06])).all(dim=1)
    eyes &= centres[:, 1] > 0
    chosen = torch.randint(len(triangles), (468,), generator=generator)
    weights = torch.rand(468, 3, generator=generator)
    landmarks = {68: LandmarkEmbedding.of_vertices(torch.arange(0, 680, 10)),
                 468: LandmarkEmbedding(triangles[chosen], weights / weights.sum(1, keepdim=True),
                                        torch.ones(468, dtype=torch.bool))}
    return FaceModelData(name="bfm", mean=mean, identity_basis=bases[0], expression_basis=bases[1],
                         triangles=triangles, pncc_triangles=triangles[~eyes], landmarks=landmarks)


@pytest.fixture(scope="session")
def face_model() -> MorphableModel:
    return MorphableModel(face_data())
