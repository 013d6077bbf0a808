"""The sound of a video, read forwards: 16 kHz mono pieces that begin with given frames, and their features."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from modules.audio.features import FEATURE_WINDOW, AudioFeatures, FeatureKind, extract
from modules.audio.hubert import HubertFeatures, load_hubert
from modules.media.audio import read_sound
from modules.media.rates import FRAME_SAMPLES, SAMPLE_RATE

SILENCE = 1e-3  # root mean square below which a piece counts as silent: -60 dB of full scale


class AudioTrack:
    """The sound track of a video; no more than one piece is held at a time.

    Args:
        path: a video file; one without a sound track is silent.
    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        sound = read_sound(path, optional=True)
        self._blocks = iter(()) if sound is None else sound.mono(SAMPLE_RATE)
        self._rest = np.zeros(0, np.float32)
        self._position = 0  # of the first sample of `_rest`

    def piece(self, start: int, frames: int) -> np.ndarray | None:
        """The sound of frames `start` to `start + frames`, [640 * frames] float32, None if that is silence.

        `start` must not go back; beyond the end of the sound there is silence.

        Raises:
            UserError: the sound is damaged.
        """
        first, last = start * FRAME_SAMPLES, (start + frames) * FRAME_SAMPLES
        if first < self._position:
            raise ValueError(f"piece from sample {first} asked for after sample {self._position}")
        pieces = [self._rest]
        end = self._position + len(self._rest)
        while end < last and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            end += len(block)
            if end <= first:  # before the piece: drop it
                self._position, pieces = end, []
        samples = np.concatenate([np.zeros(0, np.float32), *pieces])[first - self._position :]
        self._position, self._rest = first, samples
        wave = np.pad(samples[: last - first], (0, max(last - first - len(samples), 0)))
        return wave if np.sqrt(np.mean(wave.astype(np.float64) ** 2)) > SILENCE else None


@cache
def hubert_model(source: str) -> HubertFeatures:
    """`load_hubert`, once in each process, on a GPU if there is one."""
    return load_hubert(source).to(_device())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def speech_features(wave: np.ndarray | None, kinds: tuple[FeatureKind, ...], hubert: str) -> dict[str, AudioFeatures]:
    """Features of a clip's sound [N] by kind; an empty dictionary for silence.

    Args:
        hubert: folder or hub name of HuBERT, read when it is among `kinds`.
    Raises:
        UserError: HuBERT cannot be loaded.
    """
    if wave is None or len(wave) < FEATURE_WINDOW:
        return {}
    sound = torch.from_numpy(wave)
    return {
        kind: extract(sound.to(_device()), kind, hubert_model(hubert)) if kind == "hubert" else extract(sound, kind)
        for kind in kinds
    }
