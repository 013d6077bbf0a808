"""FrameBatch: a batch of `FramePairs` as the inputs of the model (source photo, driving) and as targets."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor

from modules.analysis.segmentation_classes import BACKGROUND, HEAD_CLASSES, one_hot, part_mask
from modules.face3d.blink import close_eyes
from modules.face3d.landmark_sets import OUTER_LIPS_68
from modules.geometry.camera import Camera
from modules.layers.resample import resize
from modules.losses.image import lip_boxes
from modules.media.pixels import to_float
from modules.portrait.discriminator import DualView
from modules.portrait.driving import Driving, DrivingConfig, PNCCInputs, head_camera, torso_keypoints
from modules.portrait.htbsr.fusion import HTBSR
from modules.portrait.photo import Photo, Surroundings

CANONICAL, SOURCE, TARGET, BEFORE, AFTER = range(5)  # the PNCCs of a batch; the last two are not always there
Draw = Callable[[Tensor, Tensor], Tensor]  # identity [M, 80], expression [M, 64] -> PNCCs [M, 3, N, N] in [-1, 1]


class Frame:
    """The source frames or the target frames of B clips.

    Attributes:
        name: "source" or "target".
        number: 0 for the source, 1 for the target.
        composed: whether `image` is the person over the clip's one background.
    """

    def __init__(
        self, batch: Mapping[str, Tensor], name: Literal["source", "target"], config: DrivingConfig, composed: bool
    ) -> None:
        self.name, self.number, self.composed = name, ("source", "target").index(name), composed
        self._batch, self._config = batch, config

    @cached_property
    def image(self) -> Tensor:
        """The whole frame, [B, 3, H, W] in [-1, 1]."""
        image = to_float(self._batch[f"{self.name}_image"])
        if not self.composed:
            return image
        return torch.where(self.mask((BACKGROUND,)), to_float(self._batch["background"]), image)

    @property
    def classes(self) -> Tensor:
        """Segmentation in six classes, uint8 [B, H, W]."""
        return self._batch[f"{self.name}_classes"]

    @cached_property
    def head(self) -> Tensor:
        """The head over black: the frame with everything else at -1, [B, 3, H, W] in [-1, 1]."""
        return torch.where(self.mask(HEAD_CLASSES), self.image, -1.0)

    @cached_property
    def camera(self) -> Camera:
        """Cameras [B], whose poses stand for the pose of the head: the head itself stays in the canonical pose."""
        return head_camera(
            self._batch["euler"][:, self.number], self._batch["translation"][:, self.number], self._config
        )

    @property
    def landmarks(self) -> Tensor:
        """The 68 landmarks of the fitted face, [B, 68, 2] (x, y) in image widths, y down."""
        return self._batch["keypoints"][:, self.number]

    @property
    def lip_boxes(self) -> Tensor:
        """Boxes [B, 4] (x0, x1, y0, y1) around the lips in pixels, see `modules.losses.image.lip_boxes`."""
        size = self.image.shape[-1]
        return lip_boxes(self.landmarks * size, size)

    @property
    def mouth(self) -> Tensor:
        """Middle of the lips, [B, 2] (x, y) in image widths."""
        return self.landmarks[:, OUTER_LIPS_68].mean(dim=1)

    def fields(self, names: Iterable[str], repeats: int = 1) -> dict[str, Callable[[], Tensor]]:
        """By name what gives a field of this frame, [B * repeats, ...], those of a frame in a row
        (modules/clips/fields.py)."""
        return {name: partial(self.field, name, repeats) for name in names}

    def field(self, name: str, repeats: int = 1) -> Tensor:
        """A field of this frame, [B * repeats, ...]."""
        return self._batch[name][:, self.number].repeat_interleave(repeats, dim=0)

    def mask(self, parts: tuple[int, ...]) -> Tensor:
        """Mask of the classes `parts`, bool [B, 1, H, W]."""
        return part_mask(self.classes, parts)

    def head_view(self, neural_resolution: int) -> DualView:
        """The head at full size and at the neural resolution, with its camera."""
        return DualView(self.head, resize(self.head, neural_resolution), self.camera)


class FrameBatch:
    """Source and target frames of B clips.

    Args:
        batch: collated items of `FramePairs`, on the device of the model.
        config: the driving config of the model, which gives the focal length of the cameras.
        draw: draws the PNCCs that are asked for; not needed where they are in the batch.
        composed: take the person over the clip's one background for the frames (docs/spec/data_gen.md#6), so that a
            background that moves is nothing to learn.
    """

    def __init__(
        self, batch: Mapping[str, Tensor], config: DrivingConfig, draw: Draw | None = None, composed: bool = False
    ) -> None:
        self._batch, self._draw = batch, draw
        self._pncc: dict[int, Tensor] = {}
        self.source = Frame(batch, "source", config, composed)
        self.target = Frame(batch, "target", config, composed)

    def pncc(self, *numbers: int) -> list[Tensor]:
        """PNCCs [B, 3, N, N] in [-1, 1]: CANONICAL, SOURCE, TARGET t, its neighbours BEFORE and AFTER; drawn once."""
        missing = [number for number in dict.fromkeys(numbers) if number not in self._pncc]
        if "pncc" in self._batch:
            self._pncc |= {number: to_float(self._batch["pncc"][:, number]) for number in missing}
        elif missing:
            known = self._batch["expression"]  # [B, 4, 64], without the neutral one
            expressions = torch.cat([torch.zeros_like(known[:, :1]), known], dim=1)[:, missing]
            identities = self._batch["identity"][:, None].expand(-1, len(missing), -1)
            drawn = self._drawn(identities.flatten(0, 1), expressions.flatten(0, 1)).unflatten(0, (-1, len(missing)))
            self._pncc |= dict(zip(missing, drawn.unbind(dim=1)))
        return [self._pncc[number] for number in numbers]

    def _drawn(self, identity: Tensor, expression: Tensor) -> Tensor:
        if self._draw is None:
            raise ValueError("the batch holds coefficients and no PNCCs; give `draw`")
        return self._draw(identity, expression)

    def pncc_of(self, number: int) -> PNCCInputs:
        """Inputs of the motion adapter with PNCC `number` (SOURCE, TARGET, BEFORE or AFTER) as the driving one."""
        return PNCCInputs(*self.pncc(CANONICAL, SOURCE, number))

    def closed(self) -> list[PNCCInputs]:
        """Inputs of the motion adapter driven by the target with its eyes closed more and more, three of them."""
        inputs = self.pncc_of(TARGET)
        amounts = self._batch["closing"].tolist()
        pncc = [torch.stack([close_eyes(p, a) for p, a in zip(inputs.driving, row)]) for row in zip(*amounts)]
        return [inputs.with_driving(p) for p in pncc]

    def perturbed(self) -> list[PNCCInputs]:
        """Inputs of the motion adapter driven by source or target, without and with noise on the coefficients."""
        source, target = self.pncc(SOURCE, TARGET)
        exact = torch.where((self._batch["perturbed_number"] == SOURCE)[:, None, None, None], source, target)
        noisy = self._drawn(self._batch["perturbed_identity"], self._batch["perturbed_expression"])
        return [self.pncc_of(TARGET).with_driving(pncc) for pncc in (exact, noisy)]

    def photo(self) -> Photo:
        """The source head as the photo of stage 2, which has no torso and background."""
        return Photo(self.source.head, self.source.camera)

    def driving(self, frame: Frame) -> Driving:
        """Camera and PNCCs that drive the source to one of the two frames."""
        return Driving(frame.camera, self.pncc_of((SOURCE, TARGET)[frame.number]))

    def photo_with_surroundings(self, decoder: HTBSR, inpainted: bool = True) -> Photo:
        """The source as the photo of stage 3: head, in-painted torso, classes, background and key points.

        Args:
            decoder: detects the key points if they are learned.
            inpainted: use the clip's background without the person; False: the source frame itself (an ablation).
        """
        background = to_float(self._batch["background"]) if inpainted else self.source.image
        around = Surroundings(
            to_float(self._batch["torso"]),
            one_hot(self.source.classes),
            background,
            self.keypoints(self.source, decoder),
        )
        return Photo(self.source.head, self.source.camera, around)

    def driving_with_keypoints(self, frame: Frame, decoder: HTBSR) -> Driving:
        """`driving` with the key points that move the torso in stage 3."""
        driving = self.driving(frame)
        return Driving(driving.camera, driving.pncc, self.keypoints(frame, decoder))

    def keypoints(self, frame: Frame, decoder: HTBSR) -> Tensor:
        """Key points of the torso: landmarks [B, 68, 3], or learned points [B, K, 3] detected on the frame."""
        return decoder.keypoints(torso_keypoints(frame.landmarks, inside=False), frame.image)
