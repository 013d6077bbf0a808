"""What a prepared clip shows, in numbers: pose, expression, size and fit of the face, loudness of the sound."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modules.clips.format import Clip, is_heard, person_of
from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE
from modules.metrics.motion import landmark_error
from modules.system.errors import UserError

LOOKED_AT = 25  # frames of a clip, evenly over its length


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """Numbers of a clip; N of its frames, at most `LOOKED_AT`, were looked at.

    Attributes:
        folder, person, source, licence, face_model: as the clip says.
        length: frames.
        angles: [N, 3] degrees: pitch, yaw, roll.
        expression: [N], root mean square of the 64 coefficients.
        face: [N], width of the face as a share of the picture's; empty without landmarks.
        error: median distance of the fitted landmarks by that of the outer eye corners; NaN if it cannot be told.
        loudness: of the sound, decibels of full scale; NaN for a silent clip.
        sound_late: frames by which the sound was late before it was moved; NaN if that is not known.
    """

    folder: Path
    person: str
    source: str
    licence: str
    face_model: str
    length: int
    angles: np.ndarray
    expression: np.ndarray
    face: np.ndarray
    error: float
    loudness: float
    sound_late: float

    @property
    def seconds(self) -> float:
        return self.length / FRAME_RATE

    @property
    def has_pictures(self) -> bool:
        """Whether the clip has a video; those for speech alone have none."""
        return (self.folder / "video.mp4").is_file()


def read_facts(folder: Path) -> ClipFacts:
    """Measure a clip; its pictures are not decoded.

    Raises:
        UserError: the clip is damaged.
    """
    clip = Clip(folder)
    rows = torch.linspace(0, len(clip) - 1, min(len(clip), LOOKED_AT)).round().long()
    face, landmarks = clip.face[rows], torch.from_numpy(clip.landmarks)
    points = landmarks[rows] if landmarks.shape[1] else landmarks[:0]
    error = float("nan")
    if len(points):
        try:
            error = float(landmark_error(load_face_model(clip.face_model), face, points).median())
        except UserError:  # its file is not here; the folder may be from another machine
            pass
    return ClipFacts(
        folder=folder,
        person=person_of(folder),
        source=clip.source,
        licence=clip.licence,
        face_model=clip.face_model,
        length=len(clip),
        angles=torch.rad2deg(face.euler).numpy(),
        expression=face.expression.square().mean(dim=1).sqrt().numpy(),
        face=np.ptp(points[..., 0].numpy(), axis=1) if len(points) else np.zeros(0),
        error=error,
        loudness=loudness(clip.audio()),
        sound_late=clip.sound_late,
    )


def loudness(wave: np.ndarray | None) -> float:
    """Root mean square of a sound [N] in decibels of full scale; NaN for silence."""
    if wave is None or not is_heard(wave):
        return float("nan")
    return float(10 * np.log10(np.mean(wave.astype(np.float64) ** 2)))
