"""The sound of a video, read forwards: 16 kHz mono pieces that begin with given frames, and their features."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from modules.audio.features import FEATURE_WINDOW, AudioFeatures, FeatureKind, FeatureNetwork, PitchKind, extract
from modules.audio.hubert import DEFAULT_HUBERT, load_hubert
from modules.audio.whisper import DEFAULT_WHISPER, load_whisper
from modules.audio.world import world
from modules.clips.format import is_heard
from modules.media.audio import read_sound
from modules.media.rates import FRAME_SAMPLES, SAMPLE_RATE


class AudioTrack:
    """The sound track of a video; no more than one piece is held at a time.

    Args:
        path: a video file, or one of sound alone; a video without a sound track is silent.
        start: seconds from the first picture at which frame 0 is.
    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path, start: float = 0.0) -> None:
        sound = read_sound(path, optional=True, after=start)
        self._blocks = iter(()) if sound is None else sound.mono(SAMPLE_RATE)
        self._rest = np.zeros(0, np.float32)
        self._position = 0  # of the first sample of `_rest`, from frame 0 on

    def piece(self, start: int, frames: int) -> np.ndarray | None:
        """The sound of frames `start` to `start + frames`, [640 * frames] float32, None if that is silence.

        As `samples`.
        """
        wave = self.samples(start * FRAME_SAMPLES, frames * FRAME_SAMPLES)
        return wave if is_heard(wave) else None

    def samples(self, first: int, count: int) -> np.ndarray:
        """Samples `first` to `first + count` at 16 kHz, counted from frame 0, [count] float32.

        `first` must not go back; before the beginning and beyond the end of the sound there is silence.

        Raises:
            UserError: the sound is damaged.
        """
        before, first, last = max(-first, 0), max(first, 0), first + count
        if first < self._position:
            raise ValueError(f"sound from sample {first} asked for after sample {self._position}")
        pieces = [self._rest]
        end = self._position + len(self._rest)
        while end < last and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            end += len(block)
            if end <= first:  # before the piece: drop it
                self._position, pieces = end, []
        samples = np.concatenate([np.zeros(0, np.float32), *pieces])[first - self._position :]
        self._position, self._rest = first, samples
        wave = samples[: max(last - first, 0)]
        return np.pad(wave, (min(before, count), max(last - first - len(wave), 0)))


@dataclass(frozen=True, kw_only=True)
class FeatureSources:
    """Where the networks of speech features are, and how the pitch that goes with them is found.

    Args:
        hubert: folder or hub name of HuBERT.
        whisper: folder of scripts/convert_whisper.py.
        pitch: the tracker; world needs the package pyworld.
    """

    hubert: str = DEFAULT_HUBERT
    whisper: str = DEFAULT_WHISPER
    pitch: PitchKind = "praat"

    def network(self, kind: FeatureKind) -> FeatureNetwork | None:
        """The network of a kind on a GPU if there is one, loaded once in each process; None for mel.

        Raises:
            UserError: it cannot be loaded.
        """
        return None if kind == "mel" else _network(kind, self.whisper if kind == "whisper" else self.hubert)

    def check(self, kinds: tuple[FeatureKind, ...]) -> None:
        """Load what the features of these kinds need, so that whatever is missing stops a run before it begins.

        Raises:
            UserError: a network or the package of the pitch is missing.
        """
        for kind in kinds:
            self.network(kind)
        if self.pitch == "world":
            world()


@cache
def _network(kind: FeatureKind, source: str) -> FeatureNetwork:
    network = load_whisper(Path(source)) if kind == "whisper" else load_hubert(source)
    return network.to(_device())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def speech_features(
    wave: np.ndarray | None, kinds: tuple[FeatureKind, ...], sources: FeatureSources = FeatureSources()
) -> dict[str, AudioFeatures]:
    """Features and pitch of a clip's sound [N] by kind; an empty dictionary for silence.

    Raises:
        UserError: a network cannot be loaded.
    """
    if wave is None or len(wave) < FEATURE_WINDOW:
        return {}
    sound = torch.from_numpy(wave)
    return {
        kind: extract(sound if kind == "mel" else sound.to(_device()), kind, sources.network(kind), pitch=sources.pitch)
        for kind in kinds
    }
