"""Losses of the torso model."""

import pytest
import torch

from modules.htbsr.losses import occlusion_area, occlusion_entropy, torso_cover, torso_l1


def test_entropy_is_one_bit_at_a_half_and_nothing_when_decided() -> None:
    assert occlusion_entropy(torch.full((1, 1, 4, 4), 0.5)).item() == pytest.approx(1)
    assert occlusion_entropy(torch.tensor([0.0, 1.0])).item() < 1e-3


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
    alone = [occlusion_area(maps[i:i + 1], masks[i:i + 1]) for i in range(2)]
    assert occlusion_area(maps, masks).item() == pytest.approx(sum(alone).item() / 2)


def test_the_torso_cover_is_free_behind_the_head_and_zero_where_right():
    torso = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    torso[..., 5:, :] = True
    head = torch.zeros_like(torso)
    head[..., :3, 2:6] = True
    behind = torso.float() + head * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(torso_cover(behind, torso, head)) == 0
    assert float(torso_cover(1 - torso.float(), torso, head)) == 2


def test_the_torso_picture_counts_only_where_the_torso_is_seen():
    torso = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    torso[0, :, 2:] = True
    image, truth = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    assert float(torso_l1(image, truth, torso)) == 0.5
    assert float(torso_l1(image, truth, torch.zeros_like(torso))) == 0
