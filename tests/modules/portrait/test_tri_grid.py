import pytest
import torch
from torch.testing import assert_close

from modules.portrait.tri_grid import TriGridRefiner, TriGridRefinerConfig


@pytest.mark.parametrize(("depth", "blocks"), [(3, 1), (4, 2)])
def test_more_than_three_slices_take_two_blocks(depth, blocks):
    refiner = TriGridRefiner(TriGridRefinerConfig(plane_channels=4, plane_depth=depth))
    planes = torch.randn(2, 3, 4 * depth, 5, 6)
    assert len(refiner.res_blocks_3d) == blocks
    assert refiner(planes).shape == planes.shape


def test_without_its_learned_strength_it_changes_nothing():
    refiner = TriGridRefiner(TriGridRefinerConfig(plane_channels=4))
    planes = torch.randn(1, 3, 12, 5, 5)
    assert not torch.equal(refiner(planes), planes)
    torch.nn.init.zeros_(refiner.res_blocks_3d[0].alpha)
    assert_close(refiner(planes), planes)


def test_planes_do_not_mix():
    refiner = TriGridRefiner(TriGridRefinerConfig(plane_channels=4))
    planes = torch.randn(1, 3, 12, 5, 5)
    changed = planes.clone()
    changed[:, 2] += 1
    assert torch.equal(refiner(changed)[:, :2], refiner(planes)[:, :2])


def test_a_single_slice_is_refused():
    with pytest.raises(ValueError, match="plane_depth is 1"):
        TriGridRefinerConfig(plane_depth=1)
