"""Frames by the photo itself, posed in 3D (`--renderer rig`): no network draws, so any size to 1024 and any photo.

The motion is that of the planes: what listens, follows clips and reads motions is `TalkingPortrait`'s.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from inference.layers import Layers, rig_layers
from inference.motion import Motion
from inference.portrait import FRONTAL_DISTANCE, analyse_photo, check_procedural
from inference.track import apply_blinks
from inference.workers import FramePool, map_in_order
from modules.analysis.crop import crop_picture
from modules.analysis.crop import resize as resized
from modules.analysis.mediapipe_models import person_confidence
from modules.analysis.segmentation import ANALYSIS_SIZE, segment_crop
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel
from modules.layers.resample import resize
from modules.media.pixels import to_pixels, to_tensor
from modules.procedural.person import sample_person
from modules.procedural.render import render
from modules.rig.config import RigConfig
from modules.rig.draw import RigFrames, draw
from modules.rig.motion import head_poses
from modules.rig.rig import PhotoRig, RigPhoto

Made = TypeVar("Made")  # of a frame: its pixels, or more


def rig_photo(path: Path, model: MorphableModel, size: int, face: int | None = None, anyway: bool = False) -> RigPhoto:
    """Analyse a photo, as `Portrait.from_photo` does.

    Args:
        size: pixels a side of the frames that will be drawn.
    Raises:
        UserError: no picture, no usable face, or a model file is missing.
    """
    photo, box, landmarks, fitted = analyse_photo(path, model, face, anyway)
    picture, classes = segment_crop(photo, box, landmarks, max(size, ANALYSIS_SIZE))
    person = person_confidence(crop_picture(photo, box, ANALYSIS_SIZE))
    return RigPhoto(picture, classes, person, landmarks, fitted)


def procedural_rig_photo(seed: int, model: MorphableModel, size: int) -> RigPhoto:
    """The procedural person of `seed` with a neutral face, seen from the front; all is exact.

    Raises:
        UserError: another face model than the procedural one.
    """
    check_procedural(model)
    person = sample_person(seed)
    face = FaceCoefficients.neutral().replace(
        identity=person.identity[None], translation=torch.tensor([[0.0, 0.0, FRONTAL_DISTANCE]])
    )
    view = render(model, person, face, max(size, ANALYSIS_SIZE))
    points = model.landmarks(face.identity, face.expression, 478)
    landmarks = project(pose_points(points, face.euler, face.translation))[0].numpy()
    return RigPhoto(to_pixels(view.image)[0], view.classes[0].numpy(), None, landmarks, face)


class RigPainter:
    """Frames of one photo.

    Attributes:
        size: pixels a side of the frames.
    """

    def __init__(
        self,
        photo: RigPhoto,
        model: MorphableModel,
        size: int,
        device: torch.device,
        config: RigConfig | None = None,
    ) -> None:
        self.picture, self.model, self.size, self.device = to_tensor(photo.picture), model, size, device
        if size < len(photo.picture):  # colours are looked up one by one, and a finer photo would flicker
            photo = replace(photo, picture=resized(photo.picture, (size, size)))
        self.face, self.rig = photo.face, PhotoRig(photo, model, config).to(device)

    @classmethod
    def of(
        cls,
        source: Path | int,
        model: MorphableModel,
        size: int,
        device: torch.device,
        config: RigConfig,
        face: int | None = None,
        anyway: bool = False,
    ) -> "RigPainter":
        """The rig of a photo, see `rig_photo`, or of the procedural person of a seed; `config` as of the class."""
        if isinstance(source, int):
            photo = procedural_rig_photo(source, model, size)
        else:
            photo = rig_photo(source, model, size, face, anyway)
        return cls(photo, model, size, device, config)

    def frames(
        self, motion: Motion, background: Tensor | str | None = None, batch: int = 1, workers: int | FramePool = 0
    ) -> Iterator[np.ndarray]:
        """Draw in constant memory.

        Args:
            motion: of the face model of the rig.
            background: a picture [1, 3, any, any] in [-1, 1], "transparent", or None for the photo's own.
            batch: frames drawn together.
            workers: threads that draw side by side; 0 draws in this one.
        Yields:
            uint8 [S, S, 3], or [S, S, 4] when transparent.
        """
        if background == "transparent":
            yield from self._drawn(motion, batch, workers, lambda frames: to_pixels(_with_alpha(frames)))
            return
        behind = self._behind(background)
        yield from self._drawn(motion, batch, workers, lambda frames: to_pixels(frames.over(behind)))

    def layered_frames(
        self, motion: Motion, background: Tensor | str | None = None, batch: int = 1, workers: int | FramePool = 0
    ) -> Iterator[tuple[np.ndarray, Layers]]:
        """`frames`, each with what it is made of, see `rig_layers`."""
        transparent = background == "transparent"
        behind = None if transparent else self._behind(background)

        def both(frames: RigFrames) -> list[tuple[np.ndarray, Layers]]:
            picture = _with_alpha(frames) if transparent else frames.over(behind)
            return list(zip(to_pixels(picture), rig_layers(frames)))

        yield from self._drawn(motion, batch, workers, both)

    def debug_frames(
        self, motion: Motion, background: Tensor | None = None, batch: int = 1, workers: int | FramePool = 0
    ) -> Iterator[np.ndarray]:
        """The same with photo, visibility, stretch, depth and final picture side by side: uint8 [S, 5 S, 3]."""
        behind = self._behind(background)
        photo = torch.nn.functional.interpolate(self.picture.to(self.device), (self.size, self.size))

        def panels(frames: RigFrames) -> np.ndarray:
            near = 2 * (1 - (frames.depth - self.rig.nearest).clamp(0, 4) / 4) * (frames.depth > 0) - 1
            maps = (2 * frames.visibility - 1, frames.stretch.clamp(0, 2) - 1, near)
            parts = [photo.expand_as(frames.colour), *(part.expand_as(frames.colour) for part in maps)]
            return to_pixels(torch.cat([*parts, frames.over(behind)], dim=-1))

        yield from self._drawn(motion, batch, workers, panels)

    def background(self, chosen: Tensor | None = None) -> np.ndarray:
        """What stands behind the person, uint8 [S, S, 3]: the photo's own, or a picture [1, 3, any, any]."""
        return to_pixels(resize(self._behind(chosen), self.size))[0]

    def _behind(self, chosen: Tensor | None) -> Tensor:
        return self.rig.plate if chosen is None else chosen.to(self.device)

    def _drawn(
        self, motion: Motion, batch: int, workers: int | FramePool, picture: Callable[[RigFrames], Iterable[Made]]
    ) -> Iterator[Made]:
        expression, closing = apply_blinks(motion, self.model)
        start = torch.zeros(int(motion.relative), 3)  # a part of a motion need not begin in the photo's pose
        poses = (torch.cat([start, values]) for values in (motion.euler, motion.translation))
        euler, translation = (values[len(start) :] for values in head_poses(self.face, *poses))
        rows = [values.to(self.device, torch.float32) for values in (expression, euler, translation, closing)]

        def some(start: int) -> Iterable[Made]:
            part = (values[start : start + batch] for values in rows)
            return picture(draw(self.rig, *part, self.size))

        for frames in map_in_order(some, range(0, len(motion), batch), workers):
            yield from frames


def _with_alpha(frames: RigFrames) -> Tensor:
    return torch.cat([frames.colour, 2 * frames.alpha - 1], dim=1)
