"""Speech to motion alone: what moves, without a picture of it."""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from modules.audio.features import read_audio
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import load_face_model
from modules.metrics.lips import vowel_loudness
from modules.metrics.series import ClipSeries
from modules.system.errors import UserError
from tasks.evaluation.checkpoints import load_speech
from tasks.evaluation.methods import Scene
from tasks.evaluation.settings import Entry, EvaluationConfig


class MotionMethod(Protocol):
    """A name of the table of speech to motion."""

    name: str
    origin: str
    by_sound: bool

    def series(self, scene: Scene) -> ClipSeries:
        """What the landmarks of a video of this motion would be, T frames.

        Raises:
            UserError: there is no motion; the case counts as failed.
        """
        ...


class TrueMotion:
    """The driving clip's own landmarks: the best that each measure can give."""

    name, origin = "truth", "the true landmarks"
    by_sound = False

    def series(self, scene: Scene) -> ClipSeries:
        """Those of the true frames."""
        return scene.facts.series


class StillMotion:
    """The first frame's face in every frame."""

    name, origin = "still", "the first frame's landmarks in every frame"
    by_sound = False

    def series(self, scene: Scene) -> ClipSeries:
        """The first frame as often as the clip has frames."""
        return repeated_first(scene.facts.series)


class Loudness:
    """The first frame's face, whose mouth opens with the loudness of the vowels: what a rule without learning gives."""

    name, origin = "loudness", "log energy of the sound between 300 and 1000 Hz as mouth opening"
    by_sound = True

    def series(self, scene: Scene) -> ClipSeries:
        """Only the opening of the mouth changes: from 0 (softest) to 0.4 (loudest)."""
        loud = vowel_loudness(read_audio(scene.sound), scene.clip.count)
        opening = 0.4 * (loud - loud.min()) / (loud.max() - loud.min()).clamp(min=1e-6)
        return replace(repeated_first(scene.facts.series), mouth_opening=opening)


class SpeechCheckpoint:
    """The audio-to-motion network of a checkpoint, on the clip's own person, head still."""

    by_sound = True

    def __init__(self, name: str, entry: Entry, config: EvaluationConfig) -> None:
        """
        Args:
            entry: the checkpoint; its own face model says how the motion looks. Expressions are compared where that is
                the face model of the truth's fit, else they are NaN.
        Raises:
            UserError: it cannot listen.
        """
        self.name, self.origin, self.config = name, f"checkpoint {entry}", config
        self.speech = load_speech(entry.folder, config.device)

    def series(self, scene: Scene) -> ClipSeries:
        """The motion as landmarks of the fitted person.

        Raises:
            UserError: no sound, or none that can be used.
        """
        generator = torch.Generator().manual_seed(scene.case.seed(self.config.seed))
        expression = self.speech.motion(scene.sound, generator).expression[: scene.clip.count]
        if len(expression) < scene.clip.count:
            raise UserError(f"{len(expression)} frames of motion for {scene.clip.count} of the clip")
        model = load_face_model(self.speech.face_model)
        return motion_series(model, expression, scene.facts.series, same=model.name == self.config.face_model)


def motion_series(model: MorphableModel, expression: Tensor, truth: ClipSeries, same: bool) -> ClipSeries:
    """Expressions [T, 64] on a still head, seen from the front.

    Args:
        model: whose expressions they are.
        truth: whose person it is.
        same: whether `truth` was fitted with this model; if not, the mean person is shown, and `expression` is NaN.
    """
    frames = len(expression)
    distance = torch.tensor([[0.0, 0.0, -5.0]]).expand(frames, 3)
    identity = truth.identity[None] if same and truth.identity.isfinite().all() else torch.zeros(1, 80)
    face = FaceCoefficients(identity, expression, torch.zeros(frames, 3), distance)
    points = project(pose_points(model.landmarks(identity, expression, 478), face.euler, face.translation))
    series = ClipSeries.of(points * truth.size, truth.size, face)
    return series if same else replace(series, expression=torch.full_like(series.expression, torch.nan))


def repeated_first(series: ClipSeries) -> ClipSeries:
    """The first frame of a series in all of its frames."""
    rows = {
        name: value[:1].expand_as(value).clone()
        for name, value in vars(series).items()
        if isinstance(value, Tensor) and name != "identity"
    }
    return replace(series, **rows)
