"""FramePairTask, the base class of stages 2 and 3: a portrait model, a discriminator if asked for, frame pairs."""

from copy import deepcopy
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modules.clips.format import Clip
from modules.clips.pncc import pncc_painter
from modules.clips.splits import ClipSplit, split_clips
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.face_models import FACE_MODEL_FILES, load_face_model
from modules.losses.perceptual import PERCEPTUAL_FILES, PerceptualLoss
from modules.media.pixels import to_float, to_uint8
from modules.portrait.build import build_portrait
from modules.system.errors import UserError
from tasks.data.frame_batch import FrameBatch
from tasks.data.frame_pairs import FramePairs, ValidationPairs
from tasks.engine.seeds import seeded
from tasks.engine.task import Metric, Task
from tasks.stages.adversary import Adversary
from tasks.stages.image_terms import best_image_metric, perceptual_loss
from tasks.stages.previews import clip_video
from tasks.stages.terms import Terms, reads

OF_SOURCE = {"source_NAME": "NAME in the steps in which the source is also its own target."}  # in the log


class FramePairTask(Task):
    """Base class of the stages that train on frame pairs; their configs have model, adversary, loss, data.

    Attributes:
        terms: the losses that the stage computes.
        adversary: None without a weight of the adversarial loss.
        whole_pictures: whether whole pictures of the model are compared with those of the clips, pixel by pixel.
    """

    best_metric = "psnr"
    metrics = {  # noqa: RUF012
        "psnr": Metric("PSNR of the picture against the true frame, dB", "higher"),
        "lips_l1": Metric("mean |difference| in the square around the lips, values in [-1, 1]"),
        "psnr_of_the_source": Metric("PSNR of the unmoved photo, dB: the same for all runs, to compare with", ""),
        "perceptual": Metric("perceptual loss of the picture, which stands in for LPIPS"),
    }
    terms: ClassVar[Terms]
    whole_pictures: ClassVar[bool] = True

    def __init__(self, config: Any, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.model = build_portrait(config.model)
            self.adversary = Adversary(config.adversary) if config.loss.get("adversarial", 0.0) > 0 else None
        self.modules = dict(self.model.named_children())
        if self.adversary is not None:
            self.modules["discriminator"] = self.adversary.discriminator
        if reads("network", config.loss, self.terms):
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        self.best_metric = best_image_metric("psnr", self)

    @classmethod
    def files(cls, config: Any, fresh: bool) -> list[tuple[str, ...]]:
        names = FACE_MODEL_FILES.get(config.data.face_model, ())
        if reads("network", config.loss, cls.terms):
            names += PERCEPTUAL_FILES
        return [(name,) for name in names]

    @classmethod
    def notes(cls, config: Any) -> list[str]:
        embedded, ours = "procedural", config.model.driving.face_model
        if ours == embedded:
            return []
        return [
            f"this model knows expressions of the {ours} face model, the embedded speech those of {embedded}, which "
            "mean other things: it will follow clips (--driving), but speech only after stages 4 and 5 on such clips "
            "(docs/finetune.md)"
        ]

    @cached_property
    def clips(self) -> ClipSplit:
        """The clips of the data folders."""
        data = self.config.data
        return split_clips(data.folder, data.split, data.validation_folder, store=data.store)

    def train_dataset(self) -> Dataset:
        """Pairs of the clips to train on.

        Raises:
            UserError: there are none, or their pictures have another size than the model's.
        """
        clip, own = self.clips.train[0], self.config.model.resolution
        size = Clip(clip).frames([0]).shape[1]
        if self.whole_pictures and size != own:
            raise UserError(
                f"the pictures of {clip} have {size} pixels a side, the model's {own}; prepare the clips with "
                f"size={own}, or set model.picture_size={size}"
            )
        return FramePairs(self.config.data, self.clips.train, neighbours=self.reads_neighbours)

    def validation_dataset(self) -> Dataset | None:
        held_out = self.clips.validation
        return ValidationPairs(FramePairs(self.config.data, held_out, neighbours=False)) if held_out else None

    @property
    def held_out(self) -> list[str]:
        return [clip.name for clip in self.clips.validation]

    @property
    def reads_neighbours(self) -> bool:
        """Whether a step reads the PNCCs of the frames before and after the target."""
        return False

    def videos(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        clip = self.clips.validation[0]
        return {"source_pncc_output_truth": clip_video(self.config.data, clip, self.device, self.video_columns)}

    def video_columns(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Source, driving PNCC, prediction and target of one frame, pictures [1, 3, H, W] in [-1, 1]."""
        raise NotImplementedError

    def perceptual(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metric `perceptual` of images [B, 3, H, W] in [-1, 1], lower is better; empty without the network."""
        if "perceptual" not in self.frozen:
            return {}
        return {"perceptual": perceptual_loss(self.frozen["perceptual"], prediction, target)}

    def frames(self, batch: dict[str, Tensor]) -> FrameBatch:
        """The batch as inputs and targets of the model."""
        return FrameBatch(batch, self.config.model.driving, self.draw_pncc, self.composed)

    @property
    def composed(self) -> bool:
        """Whether the frames are the person over the clip's one background."""
        return False

    def draw_pncc(self, identity: Tensor, expression: Tensor) -> Tensor:
        """PNCCs [M, 3, N, N] in [-1, 1] of coefficients on the device of the training, in 8 bits as those of clips.

        Args:
            identity, expression: [M, 80] and [M, 64].
        """
        size = self.config.data.pncc_size
        with torch.no_grad(), torch.autocast(identity.device.type, enabled=False):  # bf16 would shake the vertices
            if identity.device.type == "cpu":
                return to_float(pncc_painter(self._face_model).pixels(identity, expression, size))
            return to_float(to_uint8(render_pncc(self._face_model, identity, expression, size)))

    @cached_property
    def _face_model(self) -> MorphableModel:
        return deepcopy(load_face_model(self.config.data.face_model)).to(self.device)
