import tracemalloc

import numpy as np
import pytest
import torch

from modules.audio import pitch
from modules.audio.pitch import PitchConfig, coarse_pitch, pitch_at_hop, track_pitch


def voice(f0: np.ndarray) -> np.ndarray:
    """Ten harmonics of a pitch given for each sample."""
    phase = 2 * np.pi * np.cumsum(f0) / 16000
    return sum(np.sin(h * phase) / h for h in range(1, 11)) * 0.1


@pytest.mark.parametrize("hertz", [90, 133.7, 220, 511])
def test_a_steady_voice_has_its_pitch(hertz):
    f0 = track_pitch(voice(np.full(16000, hertz))).f0
    assert (f0 > 0).all() and np.abs(f0 / hertz - 1).max() < 1e-3


def test_a_glide_is_followed():
    hertz = np.linspace(100, 300, 32000)
    track = track_pitch(voice(hertz))
    centres = track.first + track.step * np.arange(len(track.f0))
    voiced = track.f0 > 0
    assert voiced.mean() > 0.95
    assert np.abs(track.f0 / np.interp(centres, np.arange(32000) / 16000, hertz) - 1)[voiced].max() < 0.02


def test_silence_and_noise_have_no_pitch():
    assert not track_pitch(np.zeros(16000)).f0.any()
    noise = np.random.default_rng(0).standard_normal(16000)
    assert (track_pitch(noise).f0 > 0).mean() < 0.2


def test_loudness_does_not_matter():
    wave = voice(np.full(8000, 150.0))
    assert np.allclose(track_pitch(wave).f0, track_pitch(1e-3 * wave).f0, rtol=1e-6)


def test_less_than_three_periods_give_no_frame():
    assert len(track_pitch(np.ones(500)).f0) == 0
    assert pitch_at_hop(np.ones(600), 1).shape == (1,)


def test_the_coarse_scale_is_monotonic_between_its_ends():
    coarse = coarse_pitch(torch.tensor([0.0, 30, 50, 100, 200, 400, 800, 1100, 2000]))
    assert coarse[:3].tolist() == [1, 1, 1] and coarse[-2:].tolist() == [255, 255]
    assert (coarse[2:-1].diff() > 0).all()


def test_bad_limits_are_refused():
    with pytest.raises(ValueError, match="900"):
        PitchConfig(floor=900.0)


@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_give_the_pitch_of_the_whole(monkeypatch, block):
    noise = np.random.default_rng(0).standard_normal(16000)
    wave = voice(np.linspace(90, 400, 16000)) * (np.sin(np.arange(16000) / 1500) > -0.5) + 0.01 * noise
    monkeypatch.setattr(pitch, "AT_ONCE", 10_000)
    whole = track_pitch(wave).f0
    monkeypatch.setattr(pitch, "AT_ONCE", block)
    assert (whole > 0).any() and (whole == 0).any()
    assert np.allclose(track_pitch(wave).f0, whole, rtol=1e-6, atol=0)


def test_memory_hardly_grows_with_the_length_of_the_sound(monkeypatch):
    monkeypatch.setattr(pitch, "AT_ONCE", 50)

    def peak(seconds: int) -> int:
        wave = voice(np.full(16000 * seconds, 150.0)).astype(np.float32)
        tracemalloc.start()
        pitch_at_hop(wave, 50 * seconds)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(12) - peak(4) < 8 * 150_000  # bytes; 2 MB a second before
