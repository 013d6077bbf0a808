import pytest
import torch

from modules.metrics.sync import sync_accuracy


class Echo(torch.nn.Module):
    """A sync network that knows: both embeddings are the first number of the window."""

    def embed_audio(self, audio: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.stack([audio[:, 0, 0].cos(), audio[:, 0, 0].sin()], -1), dim=-1)

    def embed_mouth(self, points: torch.Tensor) -> torch.Tensor:
        return self.embed_audio(points)


def test_a_perfect_network_is_right_about_all_clips_and_one_that_is_late_about_none():
    phase = torch.rand(3, 40, generator=torch.Generator().manual_seed(0)) * 6
    audio, mask = phase.repeat_interleave(2, dim=1)[..., None], torch.ones(3, 40)
    clips, single = sync_accuracy(Echo(), audio, phase[..., None], mask)
    assert clips == single == 1
    clips, single = sync_accuracy(Echo(), audio, phase[..., None].roll(5, 1), mask)
    assert clips == 0 and single == pytest.approx(0.25, abs=0.15)  # against early: never; against late: by chance
