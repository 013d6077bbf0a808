import pytest
import torch

from modules.metrics.sync import own_sync_score, sound_lag, sync_accuracy, sync_score


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


def test_speech_that_is_early_by_three_windows_has_the_offset_3(generator):
    lips = torch.randn(80, 16, generator=generator)
    score = sync_score(lips, lips)
    assert score.offset == 0 and score.distance == pytest.approx(0, abs=1e-3)
    assert score.confidence == pytest.approx((2 * 16) ** 0.5, rel=0.1)  # mean distance of unrelated normal vectors
    early = torch.cat([lips[3:], torch.zeros(3, 16)])
    assert sync_score(early, lips).offset == 3 and sync_score(lips, early).offset == -3


def test_the_score_is_that_of_the_definition(generator):
    speech, lips = torch.randn(2, 40, 8, generator=generator)
    means = []
    for offset in range(-4, 5):
        rows = [speech[i + offset] if 0 <= i + offset < 40 else torch.zeros(8) for i in range(40)]
        means.append(float((torch.stack(rows) - lips).norm(dim=1).mean()))
    score = sync_score(speech, lips, reach=4)
    assert score.distance == pytest.approx(min(means), abs=1e-4)
    assert score.confidence == pytest.approx(sorted(means)[4] - min(means), abs=1e-4)
    assert score.offset == 4 - means.index(min(means))
    with pytest.raises(ValueError, match="must be alike"):
        sync_score(speech[1:], lips)


def test_our_own_network_hears_what_a_clip_shifted_by_two_frames_says(generator):
    phase = torch.rand(60, generator=generator) * 6
    audio = phase.repeat_interleave(2)[:, None]
    assert own_sync_score(Echo(), audio, phase[:, None]).offset == 0
    shifted = own_sync_score(Echo(), audio, phase[:, None].roll(2, 0))
    assert shifted.offset == 2 and shifted.distance < 0.2 < shifted.confidence


class Doubtful(Echo):
    """Unit vectors that agree a little when they belong together: their distance is above 1, that of zeros."""

    def embed_mouth(self, landmarks: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        heard = landmarks[:, 0] + 6 * torch.randn(len(landmarks), landmarks.shape[2], generator=generator)
        return torch.nn.functional.normalize(heard, dim=-1)

    def embed_audio(self, audio: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(audio[:, 0], dim=-1)


def test_the_ends_of_a_clip_are_not_taken_for_agreement(generator):
    motion = torch.randn(40, 64, generator=generator)
    score = own_sync_score(Doubtful(), motion.repeat_interleave(2, dim=0), motion)
    assert score.offset == 0 and score.distance > 1.2 and score.confidence > 0.05
    short = own_sync_score(Echo(), motion[:8, :1].repeat_interleave(2, dim=0), motion[:8, :1])
    assert short.offset == 0  # fewer windows than offsets


@pytest.mark.parametrize("late", [0, 3, -5])
def test_the_lag_of_late_sound_is_positive_and_found_between_frames(generator, late):
    phase = torch.rand(80, generator=generator) * 6
    audio = phase.repeat_interleave(2)[:, None]
    lag = sound_lag(Echo(), audio.roll(2 * late, 0), phase[:, None], 10)
    assert lag.frames == pytest.approx(late, abs=0.3) and lag.confidence > 0.2
    half = sound_lag(Echo(), audio.roll(2 * late + 1, 0), phase[:, None], 10)
    assert half.frames == pytest.approx(late + 0.5, abs=0.3)


def test_less_than_a_second_has_no_lag(generator):
    phase = torch.rand(20, generator=generator)
    assert sound_lag(Echo(), phase.repeat_interleave(2)[:, None], phase[:, None], 10) is None
