import torch
import torch.nn.functional as F

from modules.procedural.backdrop import backdrop


def test_a_background_is_the_same_picture_at_every_size():
    large, small = backdrop(6, 96), backdrop(6, 48)
    assert large.shape == (3, 96, 96) and large.min() >= -1 and large.max() <= 1
    assert (F.avg_pool2d(large[None], 2)[0] - small).abs().mean() < 0.02


def test_backgrounds_differ():
    assert torch.stack([backdrop(seed, 16) for seed in range(12)]).std(dim=0).mean() > 0.1
