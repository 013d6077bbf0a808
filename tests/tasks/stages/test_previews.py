import torch

from tasks.stages.previews import depth_picture


def test_near_is_bright_and_nothing_is_black():
    depth = torch.tensor([2.0, 3.0, 9.0, 9.0]).view(1, 1, 2, 2)
    shown = depth_picture(depth, torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2))
    assert shown[0, 0, 0, 0] > shown[0, 0, 0, 1] > -1 == shown[0, 0, 1, 0]
    assert torch.isfinite(depth_picture(depth, torch.zeros(1, 1, 2, 2))).all()
