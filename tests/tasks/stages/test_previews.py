import pytest
import torch

from tasks.stages.previews import depth_picture, psnr


def test_psnr_of_a_known_error():
    target = torch.zeros(2, 3, 4, 4)
    assert psnr(target + 0.2, target) == pytest.approx(20.0, abs=1e-4)


def test_near_is_bright_and_nothing_is_black():
    depth = torch.tensor([2.0, 3.0, 9.0, 9.0]).view(1, 1, 2, 2)
    shown = depth_picture(depth, torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2))
    assert shown[0, 0, 0, 0] > shown[0, 0, 0, 1] > -1 == shown[0, 0, 1, 0]
    assert torch.isfinite(depth_picture(depth, torch.zeros(1, 1, 2, 2))).all()
