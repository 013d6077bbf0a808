"""Sound that comes before or after the lips, measured by this project's SyncNet and put right by the sample.

Many published clips are off by some frames, and a model that is trained on them learns that. The network sees the
mouth of a fit and hears the sound; its lag is right to about half a frame (docs/data.md).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from data_gen.audio_track import AudioTrack
from modules.clips.format import is_heard
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_clip
from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE, FRAME_SAMPLES
from modules.metrics.own_syncnet import OwnLipSync, load_own_lip_sync
from modules.metrics.sync import SoundLag
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError

LISTENED_TO = 250  # frames from the beginning of a clip that tell its lag
IN_STEP = 0.5  # frames by which sound may be off where clips are refused for it: what can be measured


@dataclass(frozen=True, kw_only=True)
class OffsetConfig:
    """What is done about sound that does not come with the lips.

    Attributes:
        check: align: move it; refuse: refuse clips whose sound is off by more than half a frame; off: do not measure.
        largest: frames; a clip whose sound is off by more is refused.
        confidence: below which the lag counts as unknown (`SoundLag`).
        unknown: what is done with sound whose lag is unknown: kept as it is, or the clip refused.
        syncnet: folder of a checkpoint of the stage SyncNet; Whisper's layers lie beside it.
    """

    check: Literal["align", "refuse", "off"] = "align"
    largest: float = 10.0
    confidence: float = 0.08
    unknown: Literal["keep", "refuse"] = "keep"
    syncnet: str = str(DEMO_CHECKPOINT / "syncnet")

    def __post_init__(self) -> None:
        if not 1 <= self.largest <= FRAME_RATE or self.confidence < 0:
            raise ValueError(
                f"largest {self.largest} must be 1 to {FRAME_RATE} frames, confidence {self.confidence} not negative"
            )

    @property
    def margin(self) -> int:
        """Frames of sound that are needed before and after a clip."""
        return 0 if self.check == "off" else int(np.ceil(self.largest))


def sound_in_step(
    track: AudioTrack, start: int, face: FaceCoefficients, face_model: str, landmarks: np.ndarray, config: OffsetConfig
) -> tuple[np.ndarray | None, float]:
    """The sound of a clip of T frames from frame `start` of its video on, moved to its lips.

    Args:
        track: asked for pieces in order (`AudioTrack.samples`).
        face, face_model: the fit of the clip and its model.
        landmarks: [T, 478, 2], fractions of the square, for another fit where the network knows another model.
        config: what to do.
    Returns:
        [640 T] float32 at 16 kHz, None if that is silence; and by how many frames it was late, NaN if it is unknown.
    Raises:
        UserError: the clip is refused.
    """
    frames, margin = len(face), config.margin * FRAME_SAMPLES
    around = track.samples(start * FRAME_SAMPLES - margin, frames * FRAME_SAMPLES + 2 * margin)
    wave = around[margin : len(around) - margin]
    if not is_heard(wave):
        return None, float("nan")
    lag = None if config.check == "off" else measure_lag(face, face_model, landmarks, wave, config)
    if lag is None or lag.confidence < config.confidence:
        if config.check != "off" and config.unknown == "refuse":
            raise UserError(f"lips and sound do not go together (confidence {lag.confidence if lag else 0:.2f})")
        return wave, float("nan")
    largest = config.largest if config.check == "align" else IN_STEP
    if abs(lag.frames) > largest:
        raise UserError(f"the sound is late by {lag.frames:.1f} frames (largest {largest:g})")
    moved = round(lag.frames * FRAME_SAMPLES) if config.check == "align" else 0
    return around[margin + moved : margin + moved + len(wave)], lag.frames


def measure_lag(
    face: FaceCoefficients, face_model: str, landmarks: np.ndarray, wave: np.ndarray, config: OffsetConfig
) -> SoundLag | None:
    """By how much a sound [N] at 16 kHz is late, of the beginning of a clip; None if it is too short to tell.

    Raises:
        UserError: the network is missing.
    """
    network = lip_sync(config.syncnet)
    count = min(len(face), LISTENED_TO)
    if face_model == network.face_model:
        seen = face[torch.arange(count)]
    else:
        seen = fit_clip(load_face_model(network.face_model), torch.from_numpy(landmarks[:count]).float())
    sound = torch.from_numpy(wave[: count * FRAME_SAMPLES])
    reach = int(np.ceil(config.largest)) + 2  # so that what is off by more is not taken for less
    return network.lag(seen.identity[:1], seen.expression, sound, reach)


@cache
def lip_sync(folder: str) -> OwnLipSync:
    """The network of a folder, read once in each process.

    Raises:
        UserError: it is missing or damaged.
    """
    return load_own_lip_sync(Path(folder), Path(folder).parent / "whisper")
