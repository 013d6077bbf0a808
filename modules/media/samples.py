"""Decoded sound as numbers: any sample format and any channels -> float32, mono or stereo, with NumPy alone.

libswresample ends the process for some layouts of eight channels, and so does `AudioFrame.planes`.
"""

import av
import numpy as np
from av.audio.plane import AudioPlane

# Name of a packed sample format -> type, value of silence, full range.
FORMATS: dict[str, tuple[type, float, float]] = {
    "u8": (np.uint8, 128.0, 128.0),
    "s16": (np.int16, 0.0, 2.0**15),
    "s32": (np.int32, 0.0, 2.0**31),
    "s64": (np.int64, 0.0, 2.0**63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}
LEFT = frozenset(("FL", "BL", "SL", "FLC", "WL", "SDL", "DL", "TFL", "TBL", "TSL", "BFL", "SSL", "TTL"))
RIGHT = frozenset(name.replace("L", "R", 1) if name != "FLC" else "FRC" for name in LEFT)
SILENT = frozenset(("LFE", "LFE2"))  # bass effects, left out of a mix
UNATTENUATED = frozenset(("FL", "FR", "DL", "DR"))  # the others are 3 dB lower (ITU-R BS.775)
LOWER = 0.5**0.5


def frame_samples(frame: av.AudioFrame) -> np.ndarray:
    """All channels: [n, channels] float32, full range in [-1, 1].

    Raises:
        ValueError: a format that is not in `FORMATS`.
    """
    name, channels = frame.format.name, frame.layout.nb_channels
    planar = frame.format.is_planar
    if name.removesuffix("p") not in FORMATS or channels < 1:
        raise ValueError(f"sound of format {name} with {channels} channels")
    kind, silence, full = FORMATS[name.removesuffix("p")]
    if planar:
        values = np.stack([np.frombuffer(AudioPlane(frame, i), kind, frame.samples) for i in range(channels)], axis=1)
    else:
        values = np.frombuffer(AudioPlane(frame, 0), kind, frame.samples * channels).reshape(-1, channels)
    if kind is np.float32:
        return values.copy()
    return ((values - silence) / full).astype(np.float32)


def mixed(samples: np.ndarray, names: tuple[str, ...], channels: int) -> np.ndarray:
    """Samples [n, C] of the channels `names` -> [n, channels], 1 (the mean) or 2 (left and right).

    More than two channels are mixed to stereo so that nothing can be louder than the full range; channels of unknown
    place count alike, and of an ambisonic sound the first is taken, which hears all around.
    """
    if samples.shape[1] > 2:
        samples = samples @ mix_to_stereo(names)
    if samples.shape[1] == channels:
        return samples
    return samples.mean(axis=1, keepdims=True) if channels == 1 else np.repeat(samples, 2, axis=1)


def mix_to_stereo(names: tuple[str, ...]) -> np.ndarray:
    """Weights [C, 2] of the channels in left and right, whose sums are 1."""
    if any(name.startswith("AMBI") for name in names):
        weights = np.array([[float(name == "AMBI0")] * 2 for name in names])
    else:
        weights = np.array([_place(name) for name in names])
    if not weights.any(axis=0).all():  # of unknown place, or on one side alone
        weights = np.ones_like(weights)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def _place(name: str) -> tuple[float, float]:
    if name in SILENT or not name or name in ("NONE", "UNSD", "UNK"):
        return 0.0, 0.0
    level = 1.0 if name in UNATTENUATED else LOWER
    return (0.0 if name in RIGHT else level), (0.0 if name in LEFT else level)
