"""A formant synthesiser in numpy, many times faster than real time, and the conditions of its recording.

Source: a glottal pulse train, breath and frication noise. Filter: five resonances whose frequencies move in time
(Fant's theory), applied frame by frame in the frequency domain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import fftconvolve, lfilter

from modules.media.rates import SAMPLE_RATE

CONTROL_RATE = 500  # Hz of amplitude and pitch tracks
FILTER_HOP, _WINDOW, _FFT = 160, 320, 512  # of the moving filter: 10 ms
FILTER_RATE = SAMPLE_RATE // FILTER_HOP
BANDWIDTHS = (80.0, 110.0, 160.0, 250.0, 300.0, 350.0, 400.0)
HIGH_FORMANTS = (3500.0, 4500.0, 5500.0, 6500.0)  # they move little
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Speaker:
    """A voice.

    Args:
        pitch: mean fundamental frequency, Hz.
        formant_scale: 1 = an average man, above = a shorter vocal tract.
        breathiness: level of the noise in the voice, 0..1.
        tilt: dB an octave added above 500 Hz.
        rate: speed of speech, 1 = normal.
        liveliness: size of pitch movements in octaves.
        sibilance: level of hissing sounds.
        openness: how far this speaker opens the mouth, 1 = normal.
    """

    pitch: float
    formant_scale: float
    breathiness: float
    tilt: float
    rate: float
    liveliness: float
    sibilance: float
    openness: float


def sample_speaker(random: np.random.Generator) -> Speaker:
    """A random voice, from deep men to children."""
    pitch = float(np.exp(random.uniform(np.log(80), np.log(280))))
    size = 0.95 + 0.25 * np.log(pitch / 110) / np.log(2.5)  # higher voices come from shorter tracts
    return Speaker(
        pitch=pitch,
        formant_scale=float(size * random.uniform(0.92, 1.1)),
        breathiness=float(random.uniform(0.02, 0.3)),
        tilt=float(random.uniform(-4, 3)),
        rate=float(random.uniform(0.75, 1.35)),
        liveliness=float(random.uniform(0.05, 0.35)),
        sibilance=float(random.uniform(0.2, 0.6)),
        openness=float(random.uniform(0.65, 1.3)),
    )


@dataclass(frozen=True)
class VoiceTracks:
    """What the mouth and the throat do in time.

    Args:
        f0: [M] Hz at CONTROL_RATE.
        voicing, breath, frication: [M] amplitudes at CONTROL_RATE.
        formants: [F, 3] Hz at FILTER_RATE, of the average man.
        noise_centre, noise_width: [F] Hz and octaves, band of the frication, at FILTER_RATE.
        damping: [F], 1 = normal resonances; larger = wide ones, as in nasals.
    """

    f0: Array
    voicing: Array
    breath: Array
    frication: Array
    formants: Array
    noise_centre: Array
    noise_width: Array
    damping: Array


def synthesize_voice(tracks: VoiceTracks, speaker: Speaker, samples: int, random: np.random.Generator) -> Array:
    """The sound of a voice: [samples] at 16 kHz in [-0.5, 0.5]."""
    at = np.arange(samples) * (CONTROL_RATE / SAMPLE_RATE)
    voicing, breath, frication, f0 = (
        np.interp(at, np.arange(len(track)), track)
        for track in (tracks.voicing, tracks.breath, tracks.frication, tracks.f0)
    )
    jitter = np.interp(at, np.arange(0, len(tracks.f0), 3), random.normal(0, 0.01, len(tracks.f0[::3])))
    phase = np.cumsum(f0 * (1 + jitter)) / SAMPLE_RATE % 1
    noise = random.standard_normal(samples)
    puffs = 0.4 + 0.6 * (phase < 0.6)  # breath is modulated by the glottis
    source = voicing * (glottal_pulse(phase) + speaker.breathiness * 0.3 * noise * puffs) + 0.25 * breath * noise
    voiced = moving_filter(source, formant_response(tracks, speaker))
    hiss = moving_filter(frication * random.standard_normal(samples), _noise_response(tracks, speaker))
    wave = voiced / (np.abs(voiced).max() + 1e-9) + speaker.sibilance * hiss / max(1.0, np.abs(hiss).max() / 4)
    return 0.5 * wave / (np.abs(wave).max() + 1e-9)


def glottal_pulse(phase: Array) -> Array:
    """Derivative of the glottal flow over one period: phase [N] in [0, 1), opening until 0.4, sharp closure at 0.6."""
    return _PULSE[(phase * len(_PULSE)).astype(np.int64)]


def _pulse_table(size: int = 4096) -> Array:
    phase = np.arange(size) / size
    rise = 0.5 * np.sin(np.pi * phase / 0.4)  # derivative of (1 - cos) / 2
    fall = -np.sin(np.pi / 2 * (phase - 0.4) / 0.2)
    return np.where(phase < 0.4, rise, np.where(phase < 0.6, fall, 0.0))


_PULSE = _pulse_table()


def formant_response(tracks: VoiceTracks, speaker: Speaker) -> NDArray[np.complex64]:
    """Frequency response of the vocal tract [F, FFT / 2 + 1], gain 1 at 0 Hz before tilt."""
    frames = len(tracks.formants)
    z = np.exp(-2j * np.pi * np.arange(_FFT // 2 + 1) / _FFT).astype(np.complex64)
    z2 = z * z
    high = np.broadcast_to(np.array(HIGH_FORMANTS), (frames, len(HIGH_FORMANTS)))
    centres = np.minimum(np.concatenate([tracks.formants, high], axis=1) * speaker.formant_scale, 7600)
    denominator, gain = np.ones((frames, len(z)), dtype=np.complex64), np.ones(frames, dtype=np.float32)
    for i, bandwidth in enumerate(BANDWIDTHS):
        radius = np.exp(-np.pi * bandwidth * tracks.damping / SAMPLE_RATE)
        first = (2 * radius * np.cos(2 * np.pi * centres[:, i] / SAMPLE_RATE)).astype(np.float32)
        second = (radius**2).astype(np.float32)
        gain *= 1 - first + second
        denominator *= 1 - first[:, None] * z + second[:, None] * z2
    octaves = np.log2(np.maximum(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT, 500) / 500)
    numerator = gain[:, None] * (10 ** (speaker.tilt * octaves / 20)).astype(np.float32)
    return numerator / denominator


def _noise_response(tracks: VoiceTracks, speaker: Speaker) -> NDArray[np.float32]:
    """Band of the frication noise [F, FFT / 2 + 1]."""
    frequency = np.maximum(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT, 50)
    centre = np.minimum(tracks.noise_centre * speaker.formant_scale**0.5, 7500)[:, None]
    distance = np.log2(frequency / centre) / tracks.noise_width[:, None]
    return (np.exp(-0.5 * distance**2) + 0.02).astype(np.float32)


def moving_filter(source: Array, response: NDArray[np.complexfloating | np.floating]) -> Array:
    """Filter a signal [N] by responses [F, FFT / 2 + 1] at every FILTER_HOP samples, by overlap-add -> [N]."""
    frames = len(response)
    padded = np.zeros((frames + 1) * FILTER_HOP + _WINDOW, dtype=np.float32)
    padded[FILTER_HOP : FILTER_HOP + len(source)] = source[: len(padded) - FILTER_HOP]
    index = np.arange(frames)[:, None] * FILTER_HOP + np.arange(_WINDOW)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)
    pieces = irfft(rfft(padded[index] * window, _FFT) * response, _FFT)  # [F, FFT]
    output = np.zeros(frames * FILTER_HOP + _FFT + FILTER_HOP)
    for part in range(-(-_FFT // FILTER_HOP)):  # adds all frames at once, a hop's width at a time
        block = pieces[:, part * FILTER_HOP : (part + 1) * FILTER_HOP]
        block = np.pad(block, ((0, 0), (0, FILTER_HOP - block.shape[1])))
        output[part * FILTER_HOP : part * FILTER_HOP + frames * FILTER_HOP] += block.reshape(-1)
    return output[FILTER_HOP : FILTER_HOP + len(source)]


def record(wave: Array, random: np.random.Generator) -> Array:
    """The same speech [N] at 16 kHz, recorded otherwise: room, colour, band limit, noise, distortion, level -> [N]."""
    if random.random() < 0.5:
        seconds = random.uniform(0.1, 0.6)
        tail = random.standard_normal(int(seconds * SAMPLE_RATE)) * np.exp(
            -6.9 * np.arange(int(seconds * SAMPLE_RATE)) / (seconds * SAMPLE_RATE)
        )
        tail *= random.uniform(0.02, 0.12)
        tail[0] = 1
        wave = fftconvolve(wave, tail)[: len(wave)]
    spectrum = rfft(wave)
    frequency = np.arange(len(spectrum)) * (SAMPLE_RATE / 2 / len(spectrum))
    wave = irfft(spectrum * _colour(frequency, random), len(wave))
    wave = wave / (np.sqrt((wave**2).mean()) + 1e-9) * 0.1
    signal_to_noise = random.uniform(8, 60)
    wave = wave + 0.1 * 10 ** (-signal_to_noise / 20) * _noise(len(wave), random)
    if random.random() < 0.15:
        wave = np.tanh(wave * 6) / 6
    return wave * 10 ** (random.uniform(-20, 6) / 20)


def _colour(frequency: Array, random: np.random.Generator) -> Array:
    """A random gentle equaliser with the band limits of a cheap microphone: gains at `frequency`."""
    knots = np.log2([60, 200, 600, 1500, 3500, 8000])
    gains = random.normal(0, 4, len(knots)) + random.uniform(-3, 3) * (knots - knots.mean())
    response = 10 ** (np.interp(np.log2(np.maximum(frequency, 30)), knots, gains) / 20)
    low = random.uniform(20, 200)
    response *= frequency**2 / (frequency**2 + low**2)
    if random.random() < 0.3:
        response /= np.sqrt(1 + (frequency / random.uniform(3000, 7000)) ** 12)
    return response


def _noise(samples: int, random: np.random.Generator) -> Array:
    """Room noise of RMS 1: between white and brown, sometimes with a hum."""
    white = random.standard_normal(samples)
    pole = random.uniform(0, 0.98)
    noise = lfilter([1.0], [1.0, -pole], white)
    if random.random() < 0.3:
        t = np.arange(samples) / SAMPLE_RATE
        hum = random.choice([50.0, 60.0])
        noise = noise / noise.std() + sum(np.sin(2 * np.pi * hum * h * t) / h for h in (1, 2, 3))
    return noise / (noise.std() + 1e-9)
