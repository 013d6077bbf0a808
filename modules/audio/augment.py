"""Changes of recorded speech for training: tempo, pitch and formants, with the motion that goes with it.

Tempo is librosa's phase vocoder; pitch and formants are changed apart by the WORLD vocoder (M. Morise et al., 2016,
IEICE Trans. E99-D). Both packages are optional: requirements-augment.txt.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from modules.media.rates import SAMPLE_RATE
from modules.system.packages import optional_package

_LOUDEST = 0.999  # of full scale: WORLD's phases may add up above it


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far training speech is changed; each change is uniform within plus and minus its largest."""

    variants: int = 0  # changed versions of an utterance beside the recorded one; 0: none
    tempo: float = 0.1  # share of the speed
    semitones: float = 3.0  # of the pitch
    formants: float = 0.1  # share of the formants' frequencies: the length of the vocal tract

    def __post_init__(self) -> None:
        if self.variants < 0 or self.semitones < 0 or not (0 <= self.tempo < 0.5 and 0 <= self.formants < 0.5):
            raise ValueError(
                f"variants {self.variants} >= 0, semitones {self.semitones} >= 0, tempo {self.tempo} and formants "
                f"{self.formants} in [0, 0.5) must hold"
            )

    def change(self, variant: int, generator: torch.Generator) -> "SpeechChange":
        """Draw the change of a version of an utterance; version 0 is as recorded."""
        if variant == 0:
            return SpeechChange()
        tempo, semitones, formants = (2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1).tolist()
        return SpeechChange(1 + self.tempo * tempo, self.semitones * semitones, 1 + self.formants * formants)


@dataclass(frozen=True)
class SpeechChange:
    """One change of an utterance; the default is none."""

    tempo: float = 1.0  # above 1: faster and shorter
    semitones: float = 0.0
    formants: float = 1.0  # above 1: higher, as of a smaller head

    def of_sound(self, wave: Tensor) -> Tensor:
        """Sound [N] float32 at 16 kHz -> [about N / tempo].

        Raises:
            UserError: a package is missing.
        """
        if self == SpeechChange():
            return wave
        sound = wave.cpu().numpy().astype(np.float64)
        if self.semitones != 0 or self.formants != 1:
            sound = self._with_voice(sound)
        if self.tempo != 1:
            sound = _package("librosa").effects.time_stretch(sound, rate=self.tempo)
        return torch.from_numpy(sound / max(1.0, np.abs(sound).max() / _LOUDEST)).float()

    def of_motion(self, values: Tensor) -> Tensor:
        """Rows in time [T, C] of any rate -> [about T / tempo, C], between rows linearly."""
        if self.tempo == 1:
            return values
        position = self._positions(len(values))
        low = position.long().clamp(max=len(values) - 1)
        high, rest = (low + 1).clamp(max=len(values) - 1), (position - low)[:, None].to(values)
        return values[low] * (1 - rest) + values[high] * rest

    def of_pitch(self, f0: Tensor) -> Tensor:
        """Pitch [T] Hz, 0 = unvoiced, of any rate -> [about T / tempo], from the nearest frame."""
        nearest = self._positions(len(f0)).round().long().clamp(max=len(f0) - 1)
        return f0[nearest] * 2 ** (self.semitones / 12)

    def _positions(self, count: int) -> Tensor:
        return torch.arange(max(1, round(count / self.tempo)), dtype=torch.float64) * self.tempo

    def _with_voice(self, sound: np.ndarray) -> np.ndarray:
        world = _package("pyworld")
        f0, times = world.dio(sound, SAMPLE_RATE)
        f0 = world.stonemask(sound, f0, times, SAMPLE_RATE)
        envelope = world.cheaptrick(sound, f0, times, SAMPLE_RATE)  # [F, K], power at K frequencies
        noise = world.d4c(sound, f0, times, SAMPLE_RATE)
        bins = np.arange(envelope.shape[1])
        source = np.minimum(bins / self.formants, bins[-1])
        low = np.floor(source).astype(int)
        high, rest = np.minimum(low + 1, bins[-1]), source - low
        warped = np.ascontiguousarray(envelope[:, low] * (1 - rest) + envelope[:, high] * rest)
        changed = world.synthesize(f0 * 2 ** (self.semitones / 12), warped, noise, SAMPLE_RATE)
        return np.pad(changed, (0, max(len(sound) - len(changed), 0)))[: len(sound)]


def _package(name: str) -> ModuleType:
    return optional_package(name, "augment", "set data.augment.variants=0")
