"""The pitch of a sound that is still coming: that of the whole as soon as the loudest moment is known."""

import numpy as np
import pytest

from modules.audio.live_pitch import MARGIN, LivePitch
from modules.audio.pitch import pitch_at_hop


@pytest.fixture
def wave() -> np.ndarray:
    """Four seconds of a gliding voice with pauses, loudest at once."""
    time = np.arange(4 * 16000) / 16000
    phase = 2 * np.pi * np.cumsum(110 + 60 * np.sin(2 * time)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 9)) * (np.sin(4 * time) > -0.6)
    return (0.1 * voice / (1 + 0.3 * time)).astype(np.float32)


def heard_in_steps(wave: np.ndarray, kept: int, ahead: int) -> np.ndarray:
    """Each group of 8 frames as soon as `ahead` frames behind it have been heard."""
    pitch, parts = LivePitch(kept), []
    for end in range(8, len(wave) // 320 - 2 - ahead, 8):
        heard = end + ahead
        pitch.extend(wave[: heard * 320 + MARGIN], heard, heard * 320 + MARGIN)
        parts.append(pitch.f0(end - 8, end))
    return np.concatenate(parts)


def test_it_is_that_of_the_whole_sound(wave):
    whole = pitch_at_hop(wave, len(wave) // 320)
    live = heard_in_steps(wave, kept=64, ahead=16)
    assert np.allclose(live, whole[: len(live)], rtol=1e-9) and 0.5 < (live > 0).mean() < 0.9


def test_without_looking_ahead_most_of_it_is(wave):
    whole = pitch_at_hop(wave, len(wave) // 320)
    live = heard_in_steps(wave, kept=64, ahead=0)
    assert np.isclose(live, whole[: len(live)], rtol=1e-9).mean() > 0.9


def test_noise_before_a_voice_is_none(wave):
    hiss = 1e-4 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)  # a hum that would have a pitch
    assert not heard_in_steps(hiss.astype(np.float32), kept=64, ahead=8).any()


def test_what_is_not_heard_or_forgotten_has_no_pitch(wave):
    pitch = LivePitch(16)
    assert not pitch.f0(0, 8).any()
    for heard in range(8, 97, 8):
        pitch.extend(wave, heard, heard * 320)
    known = pitch.f0(72, 104)
    assert known[8:18].all() and not known[24:].any()
    assert not pitch.f0(0, 40).any() and pitch.frames == 96
