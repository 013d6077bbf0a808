"""The z-buffer: coverage, depth, perspective, gradients, and a plain reference."""

import pytest
import torch
from torch.testing import assert_close

from modules.face3d import rasterizer
from modules.face3d.rasterizer import interpolate, rasterize
from modules.geometry.camera import FITTING_FOCAL_LENGTH
from tests.modules.face3d.conftest import grid_triangles

FOCAL = 1.0


def pixels_to_points(corners: list[tuple[float, float, float]], size: int) -> torch.Tensor:
    """(column, row, depth) -> points that project there; [1, V, 3]."""
    column, row, depth = torch.tensor(corners).unbind(-1)
    scale = depth / (2 * FOCAL)
    return torch.stack([(2 * column / size - 1) * scale, (1 - 2 * row / size) * scale, depth], dim=-1)[None]


def naive(points: torch.Tensor, triangles: torch.Tensor, size: int) -> torch.Tensor:
    """Nearest triangle of every pixel, one triangle after the other, float64; [size, size]."""
    points = points.double()
    column = size / 2 * (1 + 2 * FOCAL * points[:, 0] / points[:, 2])
    row = size / 2 * (1 - 2 * FOCAL * points[:, 1] / points[:, 2])
    centres = torch.arange(size, dtype=torch.float64) + 0.5
    nearest, owner = torch.full((size, size), torch.inf, dtype=torch.float64), torch.full((size, size), -1)
    for number, corners in enumerate(triangles):
        x, y = column[corners][:, None, None] - centres, row[corners][:, None, None] - centres[:, None]
        weights = torch.stack([x[b] * y[c] - y[b] * x[c] for b, c in ((1, 2), (2, 0), (0, 1))])
        weights = weights / weights.sum(dim=0)
        depth = 1 / (weights / points[corners, 2][:, None, None]).sum(dim=0)
        closer = (weights > 0).all(dim=0) & (depth < nearest)
        nearest, owner = torch.where(closer, depth, nearest), torch.where(closer, number, owner)
    return owner


def random_mesh(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.rand(1, 40, 3, generator=generator) * torch.tensor([6.0, 6, 3]) + torch.tensor([-3.0, -3, 2])
    return points, torch.randint(40, (60, 3), generator=generator)


@pytest.mark.parametrize("candidates", [1 << 21, 500])
def test_it_agrees_with_one_triangle_after_the_other(generator, monkeypatch, candidates):
    monkeypatch.setattr(rasterizer, "_CANDIDATES", candidates)
    points, triangles = random_mesh(generator)
    triangles = triangles[[len(set(t.tolist())) == 3 for t in triangles]]
    assert torch.equal(rasterize(points, triangles, 32, FOCAL).triangle[0], naive(points[0], triangles, 32))


def test_a_triangle_covers_the_pixels_whose_centres_it_holds():
    points = pixels_to_points([(1.0, 1, 5), (1, 5, 5), (5, 1, 5)], 8)
    covered = rasterize(points, torch.tensor([[0, 1, 2]]), 8, FOCAL).mask[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for row in range(1, 4):
        expected[row, 1 : 5 - row] = True  # centres on the long edge do not count
    assert torch.equal(covered, expected)


def test_both_sides_are_seen_and_the_nearer_one_wins():
    points = pixels_to_points([(0.0, 0, 5), (0, 8, 5), (8, 0, 5), (0, 0, 4), (0, 8, 4), (8, 0, 4)], 8)
    behind, front = [0, 1, 2], [3, 5, 4]
    seen = rasterize(points, torch.tensor([behind, front]), 8, FOCAL)
    assert set(seen.triangle.unique().tolist()) == {-1, 1}
    assert_close(seen.depth[seen.mask], torch.full((int(seen.mask.sum()),), 4.0))


def test_equal_depth_goes_to_the_lower_index():
    points = pixels_to_points([(0.0, 0, 5), (0, 8, 5), (8, 0, 5)], 8)
    seen = rasterize(points, torch.tensor([[0, 1, 2], [0, 1, 2]]), 8, FOCAL)
    assert seen.triangle.max() == 0


def test_neighbours_leave_no_gap_and_flat_meshes_have_their_depth(generator):
    triangles = grid_triangles(40, 40)
    y, x = torch.meshgrid(torch.linspace(-5, 5, 40), torch.linspace(-5, 5, 40), indexing="ij")
    points = torch.stack([x, y, torch.full_like(x, 5)], dim=-1).view(1, -1, 3)
    points[..., :2] += 0.02 * torch.randn(1, 1600, 2, generator=generator)
    seen = rasterize(points, triangles, 64, FOCAL)
    assert seen.mask.all()
    assert_close(seen.depth, torch.full((1, 64, 64), 5.0))


def test_positions_interpolate_to_the_ray_through_the_pixel(face_model):
    points = face_model.mean[None] * torch.tensor([1.0, 1, -1]) + torch.tensor([0.0, 0, 4])
    seen = rasterize(points, face_model.triangles, 48)
    x, y, depth = interpolate(seen, points, face_model.triangles)[0]
    centres = (torch.arange(48) + 0.5) / 48 - 0.5
    mask = seen.mask[0]
    assert mask.sum() > 400
    assert_close((FITTING_FOCAL_LENGTH * x / depth)[mask], centres.expand(48, 48)[mask], atol=1e-5, rtol=0)
    assert_close((-FITTING_FOCAL_LENGTH * y / depth)[mask], centres[:, None].expand(48, 48)[mask], atol=1e-5, rtol=0)
    assert_close(depth[mask], seen.depth[0][mask])


def test_a_batch_is_its_samples(generator):
    meshes = [random_mesh(generator) for _ in range(3)]
    triangles, colours = meshes[0][1], torch.rand(3, 40, 2, generator=generator)
    together = rasterize(torch.cat([points for points, _ in meshes]), triangles, 16, FOCAL)
    picture = interpolate(together, colours, triangles)
    for k, (points, _) in enumerate(meshes):
        alone = rasterize(points, triangles, 16, FOCAL)
        assert torch.equal(together.triangle[k], alone.triangle[0])
        assert_close(picture[k], interpolate(alone, colours[k], triangles)[0])


def test_gradients_reach_the_attributes_with_the_barycentric_weights(generator):
    points, triangles = random_mesh(generator)
    seen = rasterize(points, triangles, 16, FOCAL)
    colours = torch.rand(40, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: interpolate(seen, c, triangles), colours)
    interpolate(seen, colours, triangles).sum().backward()
    assert_close(colours.grad.sum(), 3 * seen.mask.sum().double(), rtol=1e-5, atol=0)


def test_triangles_behind_the_camera_and_empty_meshes_draw_nothing():
    points = torch.tensor([[[-1.0, -1, -5], [1, -1, -5], [0, 1, -5]]])
    seen = rasterize(points, torch.tensor([[0, 1, 2]]), 8, FOCAL)
    assert not seen.mask.any() and not seen.depth.any()
    assert not rasterize(points, torch.zeros(0, 3, dtype=torch.long), 8, FOCAL).mask.any()
