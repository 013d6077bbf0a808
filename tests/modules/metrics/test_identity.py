import math

import pytest
import torch

from modules.metrics.identity import csim, identity_drift


def test_csim_is_the_cosine_to_a_photo_or_to_each_true_frame():
    angles = torch.tensor([0.0, 0.5, math.pi / 2])
    made = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(csim(made, torch.tensor([5.0, 0.0])), angles.cos())
    torch.testing.assert_close(csim(made, made), torch.ones(3))
    made[1] = torch.nan
    assert csim(made, torch.tensor([1.0, 0.0])).isnan().tolist() == [False, True, False]


def test_drift_is_between_the_first_and_the_last_quarter():
    turn = torch.linspace(0, 1, 9).repeat_interleave(8)  # 72 frames
    vectors = torch.stack([turn.cos(), turn.sin()], dim=1)
    quarter = vectors[:18].mean(0), vectors[-18:].mean(0)
    expected = 1 - float(torch.nn.functional.cosine_similarity(*quarter, dim=0))
    assert identity_drift(vectors) == pytest.approx(expected, abs=1e-5) and expected > 0.2
    assert identity_drift(torch.ones(10, 4)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(identity_drift(torch.ones(1, 4)))


def test_noise_of_single_frames_is_no_drift(generator):
    vectors = torch.ones(200, 16) + 0.5 * torch.randn(200, 16, generator=generator)
    vectors[5] = torch.nan
    single = 1 - float(csim(vectors[:1], vectors[-1]))
    assert identity_drift(vectors) < 0.3 * single
