import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from modules.audio.augment import AugmentConfig, SpeechChange
from modules.audio.pitch import track_pitch
from modules.media.rates import SAMPLE_RATE
from modules.system.errors import UserError


def vowel(pitch: float, formant: float = 900.0, seconds: float = 1.0) -> Tensor:
    """Harmonics of `pitch` Hz under one broad resonance."""
    time = torch.arange(int(seconds * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    numbers = torch.arange(1, int(7000 / pitch))
    gain = 1 / (1 + ((numbers * pitch - formant) / 150) ** 2)
    wave = (gain[:, None] * torch.sin(2 * torch.pi * pitch * numbers[:, None] * time)).sum(0)
    return (0.3 * wave / wave.abs().max()).float()


def pitch_of(wave: Tensor) -> float:
    f0 = torch.from_numpy(track_pitch(wave.numpy()).f0)
    return float(f0[f0 > 0].median())


def centroid(wave: Tensor) -> float:
    """Mean frequency of the power spectrum, Hz."""
    power = torch.fft.rfft(wave.double()).abs().square()
    return float((power * torch.linspace(0, SAMPLE_RATE / 2, len(power), dtype=torch.float64)).sum() / power.sum())


def test_without_a_change_sound_motion_and_pitch_are_the_same(generator) -> None:
    wave, motion, f0 = vowel(150), torch.randn(25, 64, generator=generator), torch.rand(50, generator=generator)
    for change in (SpeechChange(), AugmentConfig(variants=3).change(0, generator)):
        assert change.of_sound(wave) is wave and change.of_motion(motion) is motion
        assert torch.equal(change.of_pitch(f0), f0)


def test_tempo_changes_length_and_motion_alike_and_no_pitch() -> None:
    pytest.importorskip("librosa")
    wave, change = vowel(150), SpeechChange(tempo=1.25)
    fast = change.of_sound(wave)
    assert len(fast) == pytest.approx(len(wave) / 1.25, abs=2) and pitch_of(fast) == pytest.approx(150, rel=0.02)
    ramp = torch.arange(25.0)[:, None].expand(25, 3)
    assert_close(change.of_motion(ramp), (1.25 * torch.arange(20.0))[:, None].expand(20, 3))
    assert len(change.of_pitch(torch.full((50,), 150.0))) == 40


def test_pitch_and_formants_change_apart() -> None:
    pytest.importorskip("pyworld")
    wave = vowel(120)
    plain = SpeechChange(formants=1 + 1e-9).of_sound(wave)  # through the vocoder, hardly changed
    higher, smaller = SpeechChange(semitones=4).of_sound(wave), SpeechChange(formants=1.2).of_sound(wave)
    assert len(higher) == len(smaller) == len(wave)
    assert pitch_of(higher) == pytest.approx(120 * 2 ** (4 / 12), rel=0.02)
    assert pitch_of(smaller) == pytest.approx(120, rel=0.02)
    assert centroid(smaller) == pytest.approx(1.2 * centroid(plain), rel=0.05)
    assert centroid(higher) == pytest.approx(centroid(plain), rel=0.08)
    f0 = SpeechChange(semitones=12).of_pitch(torch.tensor([0.0, 100.0]))
    assert_close(f0, torch.tensor([0.0, 200.0]))


def test_changes_stay_in_their_limits_and_differ(generator) -> None:
    config = AugmentConfig(variants=2, tempo=0.1, semitones=2, formants=0.05)
    changes = [config.change(1, generator) for _ in range(100)]
    assert len(set(changes)) == 100
    assert all(0.9 <= c.tempo <= 1.1 and abs(c.semitones) <= 2 and 0.95 <= c.formants <= 1.05 for c in changes)


def test_bad_limits_are_refused() -> None:
    for bad in ({"variants": -1}, {"tempo": 0.5}, {"formants": -0.1}, {"semitones": -1}):
        with pytest.raises(ValueError, match="must hold"):
            AugmentConfig(**bad)


def test_a_missing_package_is_named_with_what_to_do(monkeypatch) -> None:
    for name, change in (("librosa", SpeechChange(tempo=1.1)), ("pyworld", SpeechChange(semitones=1))):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=f"augment needs the package {name}; pip install .*requirements-augment"):
            change.of_sound(vowel(150))
