"""Sound files -> 16 kHz mono -> features of 50 frames a second and pitch (docs/spec/audio2motion.md#6)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.audio.hubert import RECEPTIVE_FIELD
from modules.audio.pitch import Array, Samples, pitch_at_hop
from modules.audio.world import world_pitch_at_hop
from modules.media.audio import read_mono
from modules.media.rates import FRAME_SAMPLES, HOP, SAMPLE_RATE
from modules.system.errors import UserError

FEATURE_WINDOW = 512
MEL_BANDS = 80
GROUP = 8  # a sequence is a multiple of 8 frames: one latent of the motion model
_ACTIVE_LEVEL = 0.95  # quantile of the frames' levels that counts as the loudness of the speech
_QUIETEST_SPEECH = -3.0  # log10 mel magnitude; files softer than this are not amplified further
_DYNAMIC_RANGE = 2.4  # log10 units (48 dB) below the active level, the floor of the features

FeatureKind = Literal["hubert", "mel", "whisper"]
PitchKind = Literal["praat", "world"]
FeatureNetwork = Callable[[Tensor], Tensor]  # HubertFeatures or WhisperFeatures: waveform [N] -> [T, A]
PITCH_TRACKERS: dict[PitchKind, Callable[[Samples, int], Array]] = {"praat": pitch_at_hop, "world": world_pitch_at_hop}
_SIZES = {
    "mel": f"{MEL_BANDS} numbers a frame",
    "hubert": "as many numbers a frame as HuBERT (large: 1024)",
    "whisper": "as many numbers a frame as Whisper (tiny: 384)",
}


def check_audio_size(kind: FeatureKind, size: int) -> None:
    """Refuse a config's network that cannot read features of a kind: ValueError."""
    if (kind == "mel") != (size == MEL_BANDS):
        raise ValueError(f"features {kind} have {_SIZES[kind]}, model.audio_size is {size}; change one of them")


@dataclass(frozen=True)
class AudioFeatures:
    """Speech features and pitch, the input of the motion model.

    Args:
        features: [Tx, A] at 50 Hz, Tx a multiple of 8.
        f0: [Tx] Hz, 0 = unvoiced.
        pitch: the tracker of f0.
    """

    features: Tensor
    f0: Tensor
    pitch: PitchKind = "praat"

    def __len__(self) -> int:
        return len(self.f0)


def read_audio(path: Path) -> Tensor:
    """Decode any sound or video file, recognised by its content -> [N] float32 in [-1, 1], 16 kHz, mono mix.

    Raises:
        UserError: what `read_mono` refuses; or the sound is shorter than one window of the features.
    """
    wave = read_mono(path, SAMPLE_RATE)
    check_speech(path, len(wave))
    return torch.from_numpy(wave)


def check_speech(path: Path, samples: int) -> None:
    """Refuse a file of so many samples at 16 kHz.

    Raises:
        UserError: it is shorter than one window of the features.
    """
    if samples < FEATURE_WINDOW:
        raise UserError(
            f"{path} lasts {1000 * samples / SAMPLE_RATE:.0f} ms; speech must last at least "
            f"{1000 * FEATURE_WINDOW // SAMPLE_RATE} ms"
        )


@lru_cache(maxsize=2)
def mel_basis(window: int = FEATURE_WINDOW, lowest: float = 80.0, highest: float = 7600.0) -> Tensor:
    """Triangular bands [80, window / 2 + 1] from `lowest` to `highest` Hz on the Slaney scale, of equal area.

    See docs/spec/audio2motion.md#6-3.
    """

    def to_mel(hertz: np.ndarray) -> np.ndarray:
        above = 15 + np.log(np.maximum(hertz, 1000) / 1000) * 27 / np.log(6.4)
        return np.where(hertz < 1000, hertz * 3 / 200, above)

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))

    edges = to_hertz(np.linspace(*to_mel(np.array([lowest, highest])), MEL_BANDS + 2))
    frequencies = np.arange(window // 2 + 1) * SAMPLE_RATE / window
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    bands = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(bands.astype(np.float32))


def mel_spectrogram(waveform: Tensor) -> Tensor:
    """Waveform [N] at 16 kHz, N >= 512 -> log10 mel magnitudes [(N - 512) // 320 + 1, 80], not below -6.

    See docs/spec/audio2motion.md#6-3.
    """
    wave = waveform.double()  # quiet bands drown in the rounding of a float32 transform
    window = torch.hann_window(FEATURE_WINDOW, periodic=True, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(wave, FEATURE_WINDOW, HOP, window=window, center=False, return_complex=True).abs()
    return torch.log10((mel_basis().to(wave) @ spectrum).clamp(min=1e-6)).T.float().contiguous()


def normalise_mel(mel: Tensor) -> Tensor:
    """Log mel of a file -> features that do not depend on its loudness, roughly in [-1.5, 2]; silence is the floor.

    The level of the speech is a high quantile of the frames' mean-band energy; 48 dB below it everything is floor.

    Args:
        mel: [T, 80] of `mel_spectrogram`.
    Returns:
        [T, 80].
    """
    frame_level = torch.log10((10 ** (2 * mel)).mean(dim=1)) / 2  # [T] RMS over bands
    active = frame_level.quantile(_ACTIVE_LEVEL).clamp(min=_QUIETEST_SPEECH)
    return (mel - active + _DYNAMIC_RANGE).clamp(min=0) / (_DYNAMIC_RANGE / 3) - 1.5


def mel_frames(samples: int) -> int:
    """Tx, frames of kind "mel" and "whisper" that N samples give."""
    return GROUP * -(-samples // (GROUP * HOP))


def mel_features(waveform: Tensor) -> Tensor:
    """Features of kind "mel": waveform [N] at 16 kHz -> [Tx, 80] in about [-1.5, 2], Tx = 8 ceil(N / 2560).

    The end is padded with digital silence.
    """
    frames = mel_frames(len(waveform))
    padded = F.pad(waveform.float(), (0, (frames - 1) * HOP + FEATURE_WINDOW - len(waveform)))
    return normalise_mel(mel_spectrogram(padded))


def pad_frames(features: Tensor) -> Tensor:
    """Append zeros up to a multiple of 8 frames: [T, A] -> [Tx, A] (docs/spec/audio2motion.md#6-2)."""
    return F.pad(features, (0, 0, 0, -len(features) % GROUP))


def extract(
    waveform: Tensor,
    kind: FeatureKind = "mel",
    network: FeatureNetwork | None = None,
    whole_end: bool = True,
    pitch: PitchKind = "praat",
) -> AudioFeatures:
    """Features and pitch of speech.

    Args:
        waveform: [N] float32 at 16 kHz, at least 512 samples.
        kind: "whisper" (demo), "hubert" (released models) or "mel".
        network: for the first two, a loaded one (`load_whisper`, `load_hubert`) on the waveform's device.
        whole_end: pad the sound to whole video frames and what HuBERT looks ahead, so that the last video frame hears
            all of itself; False: as the released models know it, whose last audio frame is missing. Other features are
            always whole.
        pitch: tracker of the pitch: Praat's method, or WORLD's, which needs the package pyworld.
    Returns:
        Tx frames at 50 Hz, on the waveform's device.
    Raises:
        UserError: pyworld is needed and not installed.
    """
    if waveform.ndim != 1 or len(waveform) < FEATURE_WINDOW:
        raise ValueError(f"waveform is {tuple(waveform.shape)}; it must be [N] with at least {FEATURE_WINDOW} samples")
    features = feature_frames(waveform, kind, network, whole_end)
    f0 = pitch_frames(waveform.cpu().numpy(), len(features), pitch)
    return AudioFeatures(features, f0.to(features.device), pitch)


def pitch_frames(waveform: Samples, frames: int, pitch: PitchKind) -> Tensor:
    """The pitch that goes with features: waveform [N] at 16 kHz, N >= 512 -> [frames] Hz, 0 = unvoiced."""
    voiced = min((len(waveform) - FEATURE_WINDOW) // HOP + 1, frames)
    f0 = torch.from_numpy(PITCH_TRACKERS[pitch](waveform, voiced)).float()
    return F.pad(f0, (0, frames - voiced))


def feature_frames(
    waveform: Tensor, kind: FeatureKind, network: FeatureNetwork | None = None, whole_end: bool = True
) -> Tensor:
    """`extract` without the pitch: [Tx, A]."""
    if kind == "mel":
        return mel_features(waveform)
    if kind == "whisper" and network is not None:
        return network(F.pad(waveform, (0, mel_frames(len(waveform)) * HOP - len(waveform))))
    if kind == "hubert" and network is not None:
        end = -len(waveform) % FRAME_SAMPLES + RECEPTIVE_FIELD - HOP if whole_end else 0
        return pad_frames(network(F.pad(waveform, (0, end))))
    raise ValueError(f"kind is {kind!r}; use mel, or whisper or hubert together with its loaded network")
