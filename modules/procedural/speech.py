"""Procedural speech: random syllables with known phoneme times, their sound and their mouth motion.

`synthesize(seed, seconds)` gives an utterance in babble of all languages and none; the mouth track uses the named
expression modes of the procedural head at 25 frames a second.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from modules.media.rates import FEATURE_RATE, FRAME_RATE, SAMPLE_RATE
from modules.procedural.mouth import PAUSE, mouth_track
from modules.procedural.voice import (
    CONTROL_RATE,
    FILTER_RATE,
    Speaker,
    VoiceTracks,
    record,
    sample_speaker,
    synthesize_voice,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Phone:
    """A speech sound, as it sounds; how the mouth looks is in mouth.py.

    Args:
        f1, f2, f3: formants of an average man, Hz.
        voicing, frication, breath: amplitudes, 0..1.
        noise, noise_width: centre in Hz and width in octaves of the frication.
        damping: of the resonances, 1 = normal; nasals are damped more.
        seconds: usual length.
        closure: part of the length with the mouth closed inside (plosives), then a burst.
    """

    f1: float = 500
    f2: float = 1500
    f3: float = 2500
    voicing: float = 0.0
    frication: float = 0.0
    breath: float = 0.0
    noise: float = 4000
    noise_width: float = 0.5
    damping: float = 1.0
    seconds: float = 0.08
    closure: float = 0.0


def _vowel(f1: float, f2: float, f3: float) -> Phone:
    return Phone(f1, f2, f3, voicing=1.0, seconds=0.11)


VOWELS = {
    "a": _vowel(750, 1300, 2500),
    "ae": _vowel(690, 1700, 2450),
    "e": _vowel(480, 1950, 2600),
    "i": _vowel(300, 2250, 3000),
    "I": _vowel(400, 1950, 2600),
    "o": _vowel(470, 900, 2450),
    "O": _vowel(600, 950, 2500),
    "u": _vowel(320, 850, 2300),
    "y": _vowel(300, 1800, 2200),
    "uh": _vowel(620, 1200, 2550),
    "schwa": _vowel(510, 1450, 2500),
}
# fmt: off
CONSONANTS = {
    "m": Phone(260, 1100, 2200, voicing=0.45, damping=2.2),
    "n": Phone(260, 1600, 2600, voicing=0.45, damping=2.2),
    "ng": Phone(260, 2000, 2500, voicing=0.4, damping=2.2),
    "l": Phone(360, 1250, 2700, voicing=0.65, damping=1.3),
    "r": Phone(340, 1150, 1650, voicing=0.65, damping=1.3),
    "w": Phone(300, 700, 2300, voicing=0.6, damping=1.3),
    "j": Phone(280, 2250, 3000, voicing=0.6, damping=1.2),
    "f": Phone(400, 1300, 2400, frication=0.35, noise=5000, noise_width=1.2),
    "v": Phone(300, 1200, 2300, voicing=0.4, frication=0.2, noise=5000, noise_width=1.2, damping=1.8, seconds=0.06),
    "s": Phone(350, 1700, 2600, frication=0.9, noise=6300, noise_width=0.3, seconds=0.1),
    "z": Phone(280, 1700, 2600, voicing=0.35, frication=0.55, noise=6000, noise_width=0.35, damping=1.8),
    "sh": Phone(350, 1800, 2500, frication=1.0, noise=3300, noise_width=0.4, seconds=0.1),
    "th": Phone(400, 1400, 2500, frication=0.25, noise=6000, noise_width=1.4),
    "h": Phone(500, 1500, 2500, breath=0.6, seconds=0.06),
    "p": Phone(400, 1000, 2200, frication=0.5, breath=0.4, noise=1200, noise_width=1.3, closure=0.65, seconds=0.09),
    "b": Phone(300, 1000, 2200, voicing=0.12, frication=0.4, noise=1000, noise_width=1.3, closure=0.75, seconds=0.07),
    "t": Phone(350, 1700, 2600, frication=0.8, breath=0.3, noise=4800, noise_width=0.7, closure=0.6,
               seconds=0.09),
    "d": Phone(300, 1700, 2600, voicing=0.12, frication=0.5, noise=4200, noise_width=0.8, closure=0.7,
               seconds=0.06),
    "k": Phone(350, 1900, 2300, frication=0.7, breath=0.4, noise=2000, noise_width=0.6, closure=0.6,
               seconds=0.09),
    "g": Phone(300, 1900, 2300, voicing=0.12, frication=0.4, noise=1900, noise_width=0.6, closure=0.7,
               seconds=0.06),
}
# fmt: on
INVENTORY = {PAUSE: Phone(seconds=0.3)} | VOWELS | CONSONANTS
_NAMES = tuple(INVENTORY)


@dataclass(frozen=True)
class Phoneme:
    """A name of INVENTORY with its start and end in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """A piece of procedural speech.

    Args:
        audio: [N] float32 in [-1, 1], 16 kHz.
        expression: [T, 64] coefficients, 25 frames a second, frame t is the mouth at (t + 1/2) / 25 s.
        phonemes: in order, without gaps.
        f0: [2 T] Hz at 50 Hz, value i at (i + 1) / 50 s, 0 = unvoiced.
    """

    audio: Tensor
    expression: Tensor
    phonemes: tuple[Phoneme, ...]
    f0: Tensor


@dataclass(frozen=True)
class _Stream:
    """The phonemes of an utterance as arrays [S]."""

    index: NDArray[np.int64]  # in _NAMES
    seconds: Array
    loudness: Array  # 1 = normal
    accent: Array  # pitch movement of the syllable, -1..1


def synthesize(seed: int, seconds: float, openness: float | None = None) -> Utterance:
    """Clean speech of a random speaker, a function of the seed and the length alone.

    Args:
        seed: of speaker and words.
        seconds: at least 0.04; rounded down to whole frames of 25 a second.
        openness: how far the speaker opens the mouth, 1 = normal; None: by chance.
    """
    random = np.random.default_rng([seed, 0x5BEEC])
    frames = int(seconds * FRAME_RATE)
    if frames < 1:
        raise ValueError(f"seconds is {seconds}; it must be at least {1 / FRAME_RATE}")
    speaker = sample_speaker(random)
    stream = _sample_stream(frames / FRAME_RATE, speaker, random)
    ends = np.cumsum(stream.seconds)
    tracks = _voice_tracks(stream, ends, speaker, frames, random)
    wave = synthesize_voice(tracks, speaker, frames * SAMPLE_RATE // FRAME_RATE, random)
    times = zip(stream.index, ends - stream.seconds, ends)
    phonemes = tuple(Phoneme(_NAMES[i], float(a), float(b)) for i, a, b in times if a < frames / FRAME_RATE)
    return Utterance(
        torch.from_numpy(wave.astype(np.float32)),
        mouth_track([_NAMES[i] for i in stream.index], ends, frames, openness or speaker.openness),
        phonemes,
        _pitch_track(tracks, frames),
    )


def rerecord(audio: Tensor, seed: int) -> Tensor:
    """The same speech in a random room, through a random microphone, with random noise and level.

    Args:
        audio: [N] in [-1, 1], 16 kHz.
        seed: of the recording.
    Returns:
        [N] float32 in [-1, 1].
    """
    random = np.random.default_rng([seed, 0xA06])
    return torch.from_numpy(record(audio.double().numpy(), random).astype(np.float32)).clamp(-1, 1)


def _sample_stream(seconds: float, speaker: Speaker, random: np.random.Generator) -> _Stream:
    """Phrases of syllables and the pauses between them, at least `seconds` long."""
    rows: list[tuple[str, float, float, float]] = []
    total = 0.0

    def add(name: str, length: float, loudness: float, accent: float) -> float:
        rows.append((name, length, loudness, accent))
        return length

    total += add(PAUSE, random.uniform(0.02, 0.5), 0.0, 0.0)
    while total < seconds:
        phrase = total + random.uniform(0.5, 2.8)
        level = 10 ** (random.uniform(-5, 3) / 20)
        while total < phrase:
            stress = random.uniform(0.3, 1.0)
            loudness = level * (0.45 + 0.65 * stress)
            for name in _syllable(random):
                sound = INVENTORY[name]
                stretch = (0.75 + 0.6 * stress) if name in VOWELS else 1.0
                length = sound.seconds * stretch * random.uniform(0.75, 1.4) / speaker.rate
                total += add(name, length, loudness, (stress - 0.6) * 2)
        total += add(PAUSE, random.uniform(0.1, 0.9), 0.0, 0.0)
    names, lengths, loudness, accents = zip(*rows)
    return _Stream(np.array([_NAMES.index(n) for n in names]), *(np.array(c) for c in (lengths, loudness, accents)))


def _syllable(random: np.random.Generator) -> list[str]:
    """Onset, vowel, coda: CV, CVC, V, VC or with a cluster."""
    consonants, vowels = list(CONSONANTS), list(VOWELS)
    onset = [random.choice(consonants)] if random.random() < 0.85 else []
    if onset and onset[0] in "ptkbdgf" and random.random() < 0.2:
        onset.append(random.choice(["l", "r", "w"]))
    coda = [random.choice(consonants)] if random.random() < 0.35 else []
    diphthong = [random.choice(["i", "u", "I"])] if random.random() < 0.12 else []
    return [str(name) for name in [*onset, random.choice(vowels), *diphthong, *coda]]


@lru_cache(maxsize=1)
def _table() -> dict[str, Array]:
    """{field of Phone: its values for all of _NAMES}."""
    return {f.name: np.array([getattr(INVENTORY[n], f.name) for n in _NAMES]) for f in fields(Phone)}


def _voice_tracks(
    stream: _Stream,
    ends: Array,
    speaker: Speaker,
    frames: int,
    random: np.random.Generator,
) -> VoiceTracks:
    table = _table()
    now = np.arange(frames * CONTROL_RATE // FRAME_RATE + 1) / CONTROL_RATE
    at = np.minimum(np.searchsorted(ends, now, side="right"), len(ends) - 1)  # phoneme at each moment
    sound = stream.index[at]
    progress = 1 - (ends[at] - now) / stream.seconds[at]  # 0..1 within the phoneme
    closure = table["closure"][sound]
    closed = progress < closure
    burst = np.where(closure > 0, np.exp(-(progress - closure) * stream.seconds[at] / 0.012), 1.0) * ~closed
    breath = table["breath"][sound] * np.where(closure > 0, 1.0 * ~closed, 1.0)
    level = stream.loudness[at]
    smooth = CONTROL_RATE * 0.006
    voicing = gaussian_filter1d(table["voicing"][sound] * level, smooth)
    frication = gaussian_filter1d(table["frication"][sound] * burst * (0.4 + 0.6 * level), smooth / 2)
    slow = np.arange(0, len(now) + 50, 50)
    drift = np.interp(np.arange(len(now)), slow, random.normal(0, 0.04, len(slow)))
    since_pause = _time_since_pause(sound, now)
    accent = gaussian_filter1d(stream.accent[at], CONTROL_RATE * 0.06) * speaker.liveliness
    f0 = speaker.pitch * 2 ** (accent + drift + 0.12 - 0.1 * since_pause)
    coarse = np.arange(len(now) * FILTER_RATE // CONTROL_RATE + 2) / FILTER_RATE
    there = stream.index[np.minimum(np.searchsorted(ends, coarse, side="right"), len(ends) - 1)]
    formants = np.stack([table[name][there] for name in ("f1", "f2", "f3")], axis=1)
    formants = np.exp(gaussian_filter1d(np.log(formants), FILTER_RATE * 0.02, axis=0))
    noise_centre, noise_width, damping = (table[name][there] for name in ("noise", "noise_width", "damping"))
    return VoiceTracks(
        np.clip(f0, 60, 500),
        voicing,
        gaussian_filter1d(breath * level, smooth),
        frication,
        formants,
        noise_centre,
        noise_width,
        gaussian_filter1d(damping, 1.0),
    )


def _time_since_pause(sound: NDArray[np.int64], now: Array) -> Array:
    """Seconds since the last pause, at most 3: pitch falls along a phrase."""
    last = np.maximum.accumulate(np.where(sound == _NAMES.index(PAUSE), now, 0.0))
    return np.minimum(now - last, 3.0)


def _pitch_track(tracks: VoiceTracks, frames: int) -> Tensor:
    """f0 [2 frames] at 50 Hz, 0 where the voice is weak."""
    at = np.minimum((np.arange(2 * frames) + 1) * CONTROL_RATE // FEATURE_RATE, len(tracks.f0) - 1)
    return torch.from_numpy(np.where(tracks.voicing[at] > 0.1, tracks.f0[at], 0.0).astype(np.float32))
