"""Losses of the torso model."""

import pytest
import torch

from modules.losses.torso import (
    keypoint_equivariance,
    keypoint_spread,
    occlusion_area,
    random_affine,
    torso_cover,
    torso_l1,
    transformed,
)


def test_area_counts_the_torso_less() -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    ones = torch.ones(1, 1, 8, 8)
    assert occlusion_area(ones).item() == 1
    assert occlusion_area(ones, mask).item() == pytest.approx((0.3 + 1) / 2)
    assert occlusion_area(ones, mask, inside_weight=0.0).item() == pytest.approx(0.5)


def test_samples_meet_only_their_own_masks(generator: torch.Generator) -> None:
    maps = torch.rand(2, 1, 4, 4, generator=generator)
    masks = torch.rand(2, 1, 4, 4, generator=generator) > 0.5
    alone = [occlusion_area(maps[i : i + 1], masks[i : i + 1]) for i in range(2)]
    assert occlusion_area(maps, masks).item() == pytest.approx(sum(alone).item() / 2)


def test_the_torso_cover_is_free_behind_the_head_and_zero_where_right():
    torso = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    torso[..., 5:, :] = True
    head = torch.zeros_like(torso)
    head[..., :3, 2:6] = True
    behind = torso.float() + head * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(torso_cover(behind, torso, head)) == 0
    assert float(torso_cover(1 - torso.float(), torso, head)) == 2


def test_the_torso_image_counts_only_where_the_torso_is_seen():
    torso = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    torso[0, :, 2:] = True
    image, target = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert float(torso_l1(image, target, torso)) == 0.5
    assert float(torso_l1(image, target, torch.zeros_like(torso))) == 0


def test_key_points_that_keep_apart_cost_nothing() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]]])
    assert keypoint_spread(points).item() == 0
    assert keypoint_spread(points.new_zeros(2, 3, 3)).item() == pytest.approx(0.1)
    assert keypoint_spread(points[:, :1]).item() == 0


def test_a_point_that_moves_with_its_picture_is_equivariant(generator: torch.Generator) -> None:
    def brightest(picture: torch.Tensor) -> torch.Tensor:
        """The mean position of the light, x and y in [-1, 1], z 0."""
        line = torch.linspace(-1, 1, picture.shape[-1])
        share = picture / picture.sum(dim=(-2, -1), keepdim=True)
        return torch.stack(
            [(share * line).sum(dim=(-2, -1)), (share * line[:, None]).sum(dim=(-2, -1)), torch.zeros(len(picture), 1)],
            dim=-1,
        )

    line = torch.linspace(-1, 1, 65)
    spot = torch.exp(-((line - 0.3).square() + (line[:, None] + 0.2).square()) / 0.01).expand(3, 1, -1, -1)
    matrices = random_affine(3, generator)
    moved = brightest(transformed(spot, matrices))
    assert keypoint_equivariance(brightest(spot), moved, matrices).item() < 2e-3
    assert keypoint_equivariance(brightest(spot), brightest(spot), matrices).item() > 0.02


def test_random_affine_maps_turn_scale_and_shift_a_little_to_both_sides(generator: torch.Generator) -> None:
    linear, shift = random_affine(4000, generator).split([2, 1], dim=-1)
    size = torch.linalg.det(linear).sqrt()[:, None, None]
    assert torch.allclose(linear @ linear.mT, size.square() * torch.eye(2), atol=1e-5)  # no shear, no mirror
    angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
    for values, limit in ((angle, 0.3), (size - 1, 0.1), (shift[:, 0], 0.1), (shift[:, 1], 0.1)):
        assert values.min() == pytest.approx(-limit, rel=0.02) and values.max() == pytest.approx(limit, rel=0.02)
        assert abs(values.mean()) < 0.05 * limit
