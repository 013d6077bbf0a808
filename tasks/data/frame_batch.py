"""FrameBatch: a batch of `FramePairs` in the words of the model: source photo, target, and what drives a frame."""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from modules.analysis.segmentation_classes import HEAD_CLASSES, one_hot, part_mask
from modules.face3d.landmark_sets import OUTER_LIPS_68
from modules.geometry.camera import Camera
from modules.layers.resample import resize
from modules.losses.image import lip_boxes
from modules.media.pixels import to_float
from modules.portrait.discriminator import DualView
from modules.portrait.driving import Driving, DrivingConfig, PNCCInputs, head_camera, torso_keypoints
from modules.portrait.htbsr.fusion import HTBSR
from modules.portrait.photo import Photo, Surroundings

CANONICAL, SOURCE, TARGET, BEFORE, AFTER = range(5)     # the PNCCs of a batch


class Frame:
    """One frame of B clips.

    Attributes:
        name: "source" or "target"; number: 0 or 1.
    """

    def __init__(self, batch: Mapping[str, Tensor], name: Literal["source", "target"], config: DrivingConfig) -> None:
        self.name, self.number = name, ("source", "target").index(name)
        self._batch, self._config = batch, config

    @cached_property
    def image(self) -> Tensor:
        """The whole picture, [B, 3, H, W] in [-1, 1]."""
        return to_float(self._batch[f"{self.name}_image"])

    @property
    def classes(self) -> Tensor:
        """Segmentation, uint8 [B, H, W]."""
        return self._batch[f"{self.name}_classes"]

    @cached_property
    def head(self) -> Tensor:
        """The picture with everything but the head at -1."""
        return torch.where(self.mask(HEAD_CLASSES), self.image, -1.0)

    @cached_property
    def camera(self) -> Camera:
        """It holds the pose of the head."""
        return head_camera(self._batch["euler"][:, self.number], self._batch["translation"][:, self.number],
                           self._config)

    @property
    def landmarks(self) -> Tensor:
        """The 68 landmarks, [B, 68, 2] picture fractions."""
        return self._batch["keypoints"][:, self.number]

    @property
    def lip_boxes(self) -> Tensor:
        """Boxes [B, 4] around the lips, see `modules.losses.image.lip_boxes`."""
        size = self.image.shape[-1]
        return lip_boxes(self.landmarks * size, size)

    @property
    def mouth(self) -> Tensor:
        """Middle of the lips [B, 2] (x, y), picture fractions."""
        return self.landmarks[:, OUTER_LIPS_68].mean(dim=1)

    def mask(self, parts: tuple[int, ...]) -> Tensor:
        """Where the classes `parts` are, bool [B, 1, H, W]."""
        return part_mask(self.classes, parts)

    def head_view(self, neural_resolution: int) -> DualView:
        """The head at both sizes, with its camera."""
        return DualView(self.head, resize(self.head, neural_resolution), self.camera)


class FrameBatch:
    """Source and target frames of B clips.

    Args:
        batch: of `FramePairs`, on the device of the model.
        config: of the model.
    """

    def __init__(self, batch: Mapping[str, Tensor], config: DrivingConfig) -> None:
        self._batch = batch
        self.source, self.target = Frame(batch, "source", config), Frame(batch, "target", config)

    @cached_property
    def pncc(self) -> Tensor:
        """[B, 5, 3, N, N] in [-1, 1]: canonical, source, target t, t - 1, t + 1."""
        return to_float(self._batch["pncc"])

    def pncc_of(self, number: int) -> PNCCInputs:
        """The person driven by PNCC `number` (SOURCE, TARGET, BEFORE, AFTER)."""
        return PNCCInputs(self.pncc[:, CANONICAL], self.pncc[:, SOURCE], self.pncc[:, number])

    def variants(self, name: str) -> list[PNCCInputs]:
        """The person driven by each of the batch's further PNCCs: "closed" (eyes) or "perturbed" (coefficients)."""
        return [self.pncc_of(TARGET).with_driving(pncc) for pncc in to_float(self._batch[name]).unbind(dim=1)]

    def photo(self) -> Photo:
        """The head of the source, for stages 1 and 2."""
        return Photo(self.source.head, self.source.camera)

    def driving(self, frame: Frame) -> Driving:
        """The expression and the camera of one of the two frames."""
        return Driving(frame.camera, self.pncc_of((SOURCE, TARGET)[frame.number]))

    def photo_with_surroundings(self, decoder: HTBSR, inpainted: bool = True) -> Photo:
        """The source for stage 3.

        Args:
            decoder: finds the key points where they are learned.
            inpainted: the clip's background without the person; False: the source frame itself (an ablation).
        """
        background = to_float(self._batch["background"]) if inpainted else self.source.image
        around = Surroundings(to_float(self._batch["torso"]), one_hot(self.source.classes), background,
                              self.keypoints(self.source, decoder))
        return Photo(self.source.head, self.source.camera, around)

    def driving_with_keypoints(self, frame: Frame, decoder: HTBSR) -> Driving:
        """`driving` for stage 3."""
        driving = self.driving(frame)
        return Driving(driving.camera, driving.pncc, self.keypoints(frame, decoder))

    def keypoints(self, frame: Frame, decoder: HTBSR) -> Tensor:
        """What moves the torso: landmarks [B, 68, 3], or the learned points found on the frame [B, K, 3]."""
        return decoder.keypoints(torso_keypoints(frame.landmarks, inside=False), frame.image)
