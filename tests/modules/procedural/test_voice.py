from dataclasses import replace

import numpy as np
import pytest

from modules.audio.pitch import track_pitch
from modules.procedural.voice import (
    CONTROL_RATE,
    FILTER_HOP,
    FILTER_RATE,
    VoiceTracks,
    glottal_pulse,
    moving_filter,
    record,
    sample_speaker,
    synthesize_voice,
)


def vowel(
    formants: tuple[float, float, float],
    f0: float = 120.0,
    seconds: float = 0.5,
    voicing: float = 1.0,
    frication: float = 0.0,
) -> VoiceTracks:
    control, frames = np.ones(int(seconds * CONTROL_RATE) + 1), int(seconds * FILTER_RATE) + 2
    return VoiceTracks(
        f0 * control,
        voicing * control,
        0 * control,
        frication * control,
        np.tile(formants, (frames, 1)),
        np.full(frames, 5000.0),
        np.full(frames, 0.4),
        np.ones(frames),
    )


@pytest.fixture
def speaker():
    return replace(sample_speaker(np.random.default_rng(0)), formant_scale=1.0, breathiness=0.0, tilt=0.0)


def spectrum(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.rfftfreq(len(wave), 1 / 16000), np.abs(np.fft.rfft(wave * np.hanning(len(wave))))


def test_the_voice_has_the_pitch_it_is_asked_for(speaker):
    wave = synthesize_voice(vowel((500, 1500, 2500), f0=170.0), speaker, 8000, np.random.default_rng(0))
    f0 = track_pitch(wave).f0
    assert (f0 > 0).mean() > 0.9 and abs(np.median(f0[f0 > 0]) - 170) < 3


def test_formants_are_where_the_sound_is_strong(speaker):
    for first, second in ((300, 2200), (700, 1200)):
        wave = synthesize_voice(vowel((first, second, 2900), f0=100.0), speaker, 8000, np.random.default_rng(0))
        frequency, level = spectrum(wave)
        valley = level[np.abs(frequency - (first * 0.35 + second * 0.65)) < 80].max()
        for formant in (first, second):
            assert level[np.abs(frequency - formant) < 80].max() > 1.5 * valley


def test_a_hiss_is_high(speaker):
    wave = synthesize_voice(
        vowel((500, 1500, 2500), voicing=0.0, frication=1.0), speaker, 8000, np.random.default_rng(0)
    )
    frequency, level = spectrum(wave)
    assert (level[frequency > 3500] ** 2).sum() > 5 * (level[frequency < 3500] ** 2).sum()


def test_a_filter_that_does_nothing_gives_the_signal_back():
    signal = np.random.default_rng(0).standard_normal(4000)
    out = moving_filter(signal, np.ones((4000 // FILTER_HOP + 2, 257)))
    assert np.abs(out - signal).max() < 1e-5


def test_a_delay_filter_delays():
    signal = np.random.default_rng(0).standard_normal(4000)
    delay = np.exp(-2j * np.pi * np.arange(257) / 512 * 30)
    out = moving_filter(signal, np.tile(delay, (4000 // FILTER_HOP + 2, 1)))
    assert np.abs(out[30:] - signal[:-30]).max() < 1e-4


def test_the_glottis_closes_faster_than_it_opens():
    pulse = glottal_pulse(np.arange(1000) / 1000)
    assert pulse[600:].max() == 0 and -pulse.min() > 1.5 * pulse.max()
    assert abs(pulse.mean()) < 0.02  # the flow returns to 0 after each period


def test_a_recording_is_the_same_length_finite_and_another_every_time():
    wave = np.sin(np.arange(8000) / 10) * 0.3
    first, second = (record(wave, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (8000,) and np.isfinite(first).all()
    assert np.abs(first - second).max() > 1e-3
    assert np.isfinite(record(np.zeros(8000), np.random.default_rng(0))).all()
