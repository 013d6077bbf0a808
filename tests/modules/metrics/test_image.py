import pytest
import torch

from modules.metrics.image import psnr


def test_psnr_of_a_known_error():
    target = torch.zeros(2, 3, 4, 4)
    assert psnr(target + 0.2, target) == pytest.approx(20.0, abs=1e-4)
    assert psnr(-torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)) == pytest.approx(0.0)


def test_psnr_is_the_mean_of_the_pictures_and_ends_at_100_db():
    target = torch.zeros(2, 3, 4, 4)
    one = target.clone()
    one[1] += 0.2
    assert psnr(target, target) == pytest.approx(100.0) and psnr(one, target) == pytest.approx(60.0, abs=1e-3)


def test_beyond_the_range_nothing_is_worse_than_at_its_end():
    target = torch.zeros(1, 3, 4, 4)
    assert psnr(target + 5, target) == psnr(target + 1, target)
