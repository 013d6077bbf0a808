"""Methods: whatever makes frames for a case. Here: the baselines, and folders of videos from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from modules.analysis.crop import crop_picture, resize
from modules.analysis.landmarks import detect_clip
from modules.analysis.segmentation import segment
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_clip
from modules.face3d.morphable_model import MorphableModel
from modules.media.video_reader import open_video
from modules.rig.pose_tracking import track_poses
from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.clips import Source, TrueClip, central_square, list_videos
from tasks.evaluation.facts import ClipFacts
from tasks.evaluation.similarity import moved_frames


@dataclass(frozen=True)
class Scene:
    """All that a method may see of a case.

    Attributes:
        source: the photo.
        facts: the driving clip; a method that is driven by sound reads `sound` alone.
        sound: WAV from the clip's first frame on; None without sound.
    """

    case: Case
    source: Source
    facts: ClipFacts
    sound: Path | None = None

    @property
    def clip(self) -> TrueClip:
        """The driving clip."""
        return self.facts.clip

    @cached_property
    def classes(self) -> np.ndarray:
        """The six classes of the photo, [S, S] uint8."""
        return segment(self.source.picture, self.source.landmarks)

    @cached_property
    def followed(self) -> np.ndarray:
        """Landmarks [T, 478, 2] of the driving clip as inference follows it, fractions; once for all checkpoints.

        Raises:
            UserError: its face cannot be followed.
        """
        return detect_clip(self.clip.frames(), name=self.clip.path.name)

    @cached_property
    def _fits(self) -> dict[str, FaceCoefficients]:
        return {}

    def fit(self, model: MorphableModel) -> FaceCoefficients:
        """`model` fitted to `followed` and tracked, T rows; once for each face model."""
        if model.name not in self._fits:
            face = fit_clip(model, torch.from_numpy(self.followed).float())
            classes = segment(next(self.clip.frames()), self.followed[0])
            self._fits[model.name] = track_poses(model, face, self.clip.frames(), classes)
        return self._fits[model.name]


class Method(Protocol):
    """A name of the table.

    Attributes:
        name: in the table.
        origin: what made the frames, in words, for the results.
        by_sound: whether the case's sound drives it, so that its lips are as late as that.
    """

    name: str
    origin: str
    by_sound: bool

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The frames of a case, uint8 [S, S, 3], one for each of the clip's; fewer are counted as missing.

        Raises:
            UserError: there are none; the case counts as failed.
        """
        ...


class Truth:
    """The driving clip itself: the best that each metric can give."""

    name, origin, by_sound = "truth", "the true frames", False

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The true squares."""
        return scene.clip.frames()


class Still:
    """The photo, unmoved: what doing nothing gives."""

    name, origin, by_sound = "still", "the photo in every frame", False

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The photo as often as the clip has frames."""
        return (scene.source.picture for _ in range(scene.clip.count))


class Similarity:
    """The photo's head moved by shift, turn and scale in the picture, as the true landmarks move."""

    name, origin = "similarity", "the photo's head moved by a 2-D similarity of the true landmarks"
    by_sound = False

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The head over the torso, which stands, over the filled background."""
        series = scene.facts.series
        tracks = (series.landmarks / series.size).double().numpy()
        return moved_frames(scene.source.picture, scene.classes, scene.source.landmarks, tracks)


class VideoFolder:
    """Videos that any method made: one a case, of the case's name, frame k for frame k of the clip at 25 a second.

    Other rates are resampled by time. A video of S x S pixels is taken as it is; another one of the true clip's size
    is cut as the clip was; of any other the central square is taken. Then it is resized to S.
    """

    def __init__(self, name: str, folder: Path, by_sound: bool) -> None:
        """
        Raises:
            UserError: there is no folder, or no video in it.
        """
        self.name, self.origin, self.by_sound = name, f"videos in {folder}", by_sound
        self.files, _ = list_videos(folder)

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The squares of the case's video.

        Raises:
            UserError: there is no such video, or (while reading) it is damaged.
        """
        path = self.files.get(scene.case.name)
        if path is None:
            raise UserError(f"no video called {scene.case.name}")
        _, frames = open_video(path)
        return (self.square(frame, scene.clip) for frame in islice(frames, scene.clip.count))

    @staticmethod
    def square(frame: np.ndarray, clip: TrueClip) -> np.ndarray:
        """A frame [H, W, 3] of any size by the rule of this class: [S, S, 3]."""
        shape = frame.shape[:2]
        if shape == (clip.size, clip.size):
            return frame
        box = clip.box if shape == clip.shape else central_square(shape)
        return crop_picture(frame, box, clip.size)


def to_size(frames: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Square frames of any size at `size` pixels: averaged when they get smaller, cubic when larger."""
    return (frame if frame.shape[0] == size else resize(frame, (size, size)) for frame in frames)
