import math

import pytest
import torch

from modules.geometry.camera import FITTING_FOCAL_LENGTH
from modules.rig.draw import draw
from modules.rig.holes import box_of, continued, ring_cover


def ring(corners: list[tuple[float, float]], size: int, depth: float = 10.0) -> torch.Tensor:
    """Corners in pixels as points [1, N, 3] in dm."""
    x, y = (torch.tensor(corners) / size - 0.5).unbind(1)
    scale = depth / FITTING_FOCAL_LENGTH
    return torch.stack([x * scale, -y * scale, torch.full_like(x, depth)], dim=-1)[None]


def test_cover_is_the_area_of_a_polygon_pixel_by_pixel():
    size = 32
    near = torch.ones(1, size, size, dtype=torch.bool)
    square = ring([(4.25, 6.5), (10.75, 6.5), (10.75, 9.0), (4.25, 9.0)], size)
    cover = ring_cover(square, near)[0]
    assert cover.sum().item() == pytest.approx(6.5 * 2.5, abs=1e-3)
    assert cover[7, 4].item() == pytest.approx(0.75, abs=1e-4) and cover[6, 7].item() == pytest.approx(0.5, abs=1e-4)
    assert cover[7, 7].item() == pytest.approx(1, abs=1e-5) and cover[9:].sum() == 0
    torch.testing.assert_close(ring_cover(square.flip(1), near)[0], cover, rtol=0, atol=1e-4)  # the other way round
    angles = [2 * math.pi * k / 40 for k in range(40)]
    circle = ring([(16 + 8 * math.cos(a), 16 + 8 * math.sin(a)) for a in angles], size)
    assert ring_cover(circle, near).sum().item() == pytest.approx(64 * math.pi, rel=0.01)


def test_cover_moves_with_parts_of_a_pixel_and_counts_only_where_the_hole_is_seen():
    size = 32
    near = torch.ones(2, size, size, dtype=torch.bool)
    near[1, :, 16:] = False
    corners = [(8.0, 10.0), (24.0, 10.0), (24.0, 20.0), (8.0, 20.0)]
    moved = [(x + 0.3, y) for x, y in corners]
    covers = ring_cover(torch.cat([ring(corners, size), ring(moved, size)]), near)
    assert covers[0].sum().item() == pytest.approx(160, abs=1e-3)
    assert covers[1].sum().item() == pytest.approx(77, abs=1e-2) and covers[1, :, 16:].sum() == 0
    flat = ring([(8.0, 10.0), (24.0, 10.0), (24.0, 10.0), (8.0, 10.0)], size)
    assert ring_cover(flat, near[:1]).sum() < 1e-3  # lips that meet
    assert ring_cover(flat, torch.zeros_like(near[:1])).sum() == 0


def test_values_go_on_by_two_pixels_and_known_ones_stay():
    values = torch.rand(2, 16, 16, 3)
    known = torch.zeros(2, 16, 16, dtype=torch.bool)
    known[:, :, :8] = True
    values[:, :, 7] = torch.tensor([1.0, 2.0, 3.0])
    wanted = ~known
    wanted[:, :4] = False
    result = continued(values, known, wanted)
    assert torch.equal(result[known], values[known])
    assert torch.equal(result[:, :4], values[:, :4])
    torch.testing.assert_close(result[:, 6:, 8:10], torch.tensor([1.0, 2.0, 3.0]).expand(2, 10, 2, 3))
    assert torch.equal(result[:, :, 10:], values[:, :, 10:])
    assert torch.equal(continued(values, ~known & known, wanted), values)


def test_a_box_is_that_of_all_frames():
    mask = torch.zeros(2, 10, 12, dtype=torch.bool)
    assert box_of(mask, 2) == (slice(0, 0), slice(0, 0))
    mask[0, 3, 4], mask[1, 5, 11] = True, True
    assert box_of(mask, 2) == (slice(1, 8), slice(2, 12))


def test_the_rim_of_a_mouth_has_no_steps(puppet, neutral_face):
    """Frames larger than the geometry: shares between 0 and 1 all along the rim, and the area grows evenly."""
    jaw = int(puppet.rig.skeleton.model.basis[17, 1].argmin())
    areas = []
    for opened in (1.0, 1.02, 1.04):
        expression = neutral_face.expression.clone()
        expression[:, jaw] += opened
        frame = draw(puppet.rig, expression, neutral_face.euler, neutral_face.translation, torch.zeros(1), 512)
        areas.append(float(frame.mouth.sum()))
        rim = (frame.mouth > 0.02) & (frame.mouth < 0.98)
        assert rim.sum() > 40
    first, second = areas[1] - areas[0], areas[2] - areas[1]
    assert first > 5 and second == pytest.approx(first, rel=0.1)
