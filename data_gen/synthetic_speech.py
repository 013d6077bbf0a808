"""Speech of synthesisers with the mouth that belongs to it, as clips without pictures, for the speech stages.

The project's own formant speech always works; where flite is installed, its voices speak most of the clips. Every clip
is recorded anew: pitch and speed, level, room, microphone and noise; a few hold noise alone, in which the mouth rests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample

from data_gen import flite
from data_gen.audio_track import FeatureSources, speech_features
from modules.audio.features import FeatureKind, PitchKind
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import IDENTITY_SIZE, FaceCoefficients
from modules.media.rates import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE
from modules.procedural.mouth import PAUSE, mouth_track
from modules.procedural.speech import rerecord, synthesize
from modules.system.errors import UserError
from modules.system.processes import Engine, run_all

Array = NDArray[np.float64]
_NOISE_SHARE = 0.12  # of the clips
_FORMANT_SHARE = 0.25  # of the other clips, where flite is installed
_RATES = (0.78, 1.28)  # of pitch, vocal tract and speed together


@dataclass(frozen=True, kw_only=True)
class SyntheticSpeechConfig:
    """Clips of random speech; seeds below 100000 are for training, those from 900000 on are held out.

    `voices`: flite needs that program; auto takes it where it is installed, else formant speech alone, with which the
    lips meet on fewer of the p, b and m of real voices.
    """

    folder: str = "data/speech/train"  # to write the clips into
    clips: int = 300  # how many
    first_seed: int = 0  # of the first clip
    seconds: float = 8.0  # of a clip
    voices: Literal["auto", "flite", "formant"] = "auto"  # who speaks; auto: both, if flite is installed
    features: tuple[FeatureKind, ...] = ("whisper",)  # of the sound, to store
    whisper: str = DEFAULT_WHISPER  # folder of scripts/convert_whisper.py
    pitch: PitchKind = "praat"  # of the voice; world: by the package pyworld
    workers: int = 2  # processes

    def __post_init__(self) -> None:
        if min(self.clips, self.workers) < 1 or self.first_seed < 0 or self.seconds < 2 or "hubert" in self.features:
            raise ValueError(
                f"clips {self.clips} and workers {self.workers} must be positive, first_seed {self.first_seed} not "
                f"negative, seconds {self.seconds} at least 2, features {', '.join(self.features)} mel or whisper"
            )

    @property
    def feature_sources(self) -> FeatureSources:
        """Where the networks of `features` are."""
        return FeatureSources(whisper=self.whisper, pitch=self.pitch)

    @property
    def speaks_flite(self) -> bool:
        """Whether flite speaks."""
        return self.voices != "formant" and flite.available()


@dataclass(frozen=True)
class Talk:
    """Sound with its sounds of speech: `wave` [N] at 16 kHz, `names` S keys of MOUTH_SHAPES, `ends` [S] seconds."""

    wave: Array
    names: tuple[str, ...]
    ends: Array

    def cut(self, samples: int) -> "Talk":
        """Its beginning; silence follows if it is shorter."""
        wave = np.pad(self.wave[:samples], (0, max(0, samples - len(self.wave))))
        if len(self.wave) >= samples:
            return Talk(wave, self.names, self.ends)
        return join([Talk(self.wave, self.names, self.ends), _rest((samples - len(self.wave)) / SAMPLE_RATE)])


def prepare(config: SyntheticSpeechConfig, engine: Engine = run_all) -> Iterator[int]:
    """Write the clips that are missing in `config.folder`; first yields their number, then each seed when done.

    Raises:
        UserError: flite is asked for and not installed, or the Whisper layers are missing.
    """
    if config.voices == "flite" and not flite.available():
        raise UserError("flite is not installed; install it (Debian: apt-get install flite) or set voices=auto")
    config.feature_sources.check(config.features)
    seeds = range(config.first_seed, config.first_seed + config.clips)
    missing = [seed for seed in seeds if not _folder(config, seed).is_dir()]
    yield len(missing)
    yield from engine(partial(make_clip, config), missing, config.workers)


def summary(config: SyntheticSpeechConfig) -> str:
    """Counts of what `folder` holds of these clips, in one line."""
    seeds = range(config.first_seed, config.first_seed + config.clips)
    count = sum(_folder(config, seed).is_dir() for seed in seeds)
    voices = "flite and formant speech" if config.speaks_flite else "formant speech alone; with flite lips close better"
    return f"{config.folder}: {count} clips, {count * config.seconds / 60:.1f} min of {voices}"


def make_clip(config: SyntheticSpeechConfig, seed: int) -> int:
    """Speak and write one clip; returns the seed."""
    talk, openness = sample_talk(seed, config.seconds, config.speaks_flite)
    frames = int(config.seconds * FRAME_RATE)
    random = np.random.default_rng([seed, 0xFACE])
    heard = rerecord(torch.from_numpy(talk.wave * _drift(len(talk.wave), random)), seed)
    wave = np.asarray(heard[: frames * FRAME_SAMPLES])
    identity = torch.from_numpy(random.standard_normal((1, IDENTITY_SIZE))).float()
    still = torch.zeros(frames, 3)
    face = FaceCoefficients(identity, mouth_track(talk.names, talk.ends, frames, openness), still, still)
    content = ClipContent(
        frames=None,
        face=face,
        face_model="procedural",
        landmarks=np.zeros((frames, 0, 2)),
        audio=wave,
        speech=speech_features(wave, config.features, config.feature_sources),
        source=f"synthetic speech {seed}",
        licence="made by code, for training",
        person=_folder(config, seed).name,
    )
    write_clip(_folder(config, seed), content)
    return seed


def sample_talk(seed: int, seconds: float, with_flite: bool) -> tuple[Talk, float]:
    """Random speech or noise of a length, before it is recorded, and the openness of the speaker's mouth."""
    random = np.random.default_rng([seed, 0x7A1C])
    samples = round(seconds * SAMPLE_RATE)
    openness = float(random.uniform(0.65, 1.3))
    kind = random.random()
    if kind < _NOISE_SHARE:
        return Talk(_noise(samples, random), (PAUSE,), np.array([seconds])), openness
    if with_flite and kind > _NOISE_SHARE + _FORMANT_SHARE * (1 - _NOISE_SHARE):
        return spoken_sentences(seconds, random).cut(samples), openness
    speech = synthesize(seed, seconds, openness)
    names, ends = zip(*((phoneme.name, phoneme.end) for phoneme in speech.phonemes))
    return Talk(speech.audio.double().numpy(), names, np.array(ends)), openness


def spoken_sentences(seconds: float, random: np.random.Generator) -> Talk:
    """Sentences of one flite voice, at one pitch, with pauses between, at least `seconds` long."""
    voice, rate, stretch = str(random.choice(flite.VOICES)), np.exp(random.uniform(*np.log(_RATES))), 1.0
    parts = [_rest(random.uniform(0.02, 0.6))]
    while sum(part.ends[-1] for part in parts) < seconds:
        stretch = random.uniform(0.8, 1.2)
        spoken = flite.speak(flite.random_sentence(random), voice, stretch)
        wave = resample(spoken.wave, round(len(spoken.wave) / rate))
        parts.append(Talk(wave, spoken.names, spoken.ends / rate))
        long = random.random() < 0.3
        parts.append(_rest(random.uniform(0.4, 2.5) if long else random.uniform(0.0, 0.2)))
    return join(parts)


def join(parts: list[Talk]) -> Talk:
    """Talks one after the other; neighbouring pauses become one."""
    names: list[str] = []
    ends: list[float] = []
    start = 0.0
    for part in parts:
        for name, end in zip(part.names, start + part.ends):
            if names and name == names[-1] == PAUSE:
                ends[-1] = end
            else:
                names.append(name)
                ends.append(end)
        start = ends[-1]
    return Talk(np.concatenate([part.wave for part in parts]), tuple(names), np.array(ends))


def _rest(seconds: float) -> Talk:
    samples = round(seconds * SAMPLE_RATE)
    return Talk(np.zeros(samples), (PAUSE,), np.array([samples / SAMPLE_RATE]))


def _drift(samples: int, random: np.random.Generator) -> Array:
    """Gains [samples] of a speaker who comes nearer and goes away, some dB in a second."""
    knots = max(3, samples // SAMPLE_RATE)
    decibels = random.normal(0, 3, knots) * (random.random() < 0.5)
    return 10 ** (np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), decibels) / 20)


def _noise(samples: int, random: np.random.Generator) -> Array:
    """Silence, or coloured noise that swells and fades, now and then with a hum."""
    if random.random() < 0.3:
        return np.zeros(samples)
    spectrum = np.fft.rfft(random.standard_normal(samples))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** random.uniform(0, 1.2)
    noise = np.fft.irfft(spectrum, samples)
    hum = np.sin(2 * np.pi * np.exp(random.uniform(np.log(40), np.log(2000))) * np.arange(samples) / SAMPLE_RATE)
    loudness = random.uniform(0, 3) * (random.random() < 0.4)
    return 0.1 * (noise / noise.std() + loudness * hum) * _drift(samples, random)


def _folder(config: SyntheticSpeechConfig, seed: int) -> Path:
    return Path(config.folder) / f"speech_{seed:06d}"
