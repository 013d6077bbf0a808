"""FramePairTask, the base class of stages 2 and 3: a portrait model, a discriminator if asked for, frame pairs."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from modules.face_models import FACE_MODEL_FILES
from modules.losses.perceptual import PERCEPTUAL_FILES, PerceptualLoss
from modules.portrait.build import build_portrait
from tasks.data.frame_batch import FrameBatch
from tasks.engine.seeds import seeded
from tasks.engine.task import Task
from tasks.stages.adversary import Adversary
from tasks.stages.image_terms import best_image_metric, perceptual_loss, training_pairs, validation_pairs
from tasks.stages.terms import Terms, reads


class FramePairTask(Task):
    """Base class of the stages that train on frame pairs; their configs have model, adversary, loss, data.

    Attributes:
        terms: the losses that the stage computes.
        adversary: None without a weight of the adversarial loss.
    """

    best_metric = "psnr"
    higher_is_better = ("psnr", "psnr_raw", "psnr_of_the_source")
    terms: Terms

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

    def train_dataset(self) -> Dataset:
        return training_pairs(self.config.data)

    def validation_dataset(self) -> Dataset:
        return validation_pairs(self.config.data)

    def perceptual(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metric `perceptual` of images [B, 3, H, W] in [-1, 1], lower is better; empty without the network."""
        if "perceptual" not in self.frozen:
            return {}
        return {"perceptual": perceptual_loss(self.frozen["perceptual"], prediction, target)}

    def frames(self, batch: dict[str, Tensor]) -> FrameBatch:
        """The batch as inputs and targets of the model."""
        return FrameBatch(batch, self.config.model.driving)
