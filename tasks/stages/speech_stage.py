"""What the two speech stages share: data, face model, one Adam over one network."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset

from modules.face_models import load_face_model
from tasks.data.speech_clips import Sample, collate, speech_datasets
from tasks.engine.task import OptimizerSpec, ParameterGroup, Task


class SpeechTask(Task):
    """Base of the tasks on speech with motion, whose configs have features, face_model, data, learning_rate and decay.

    Attributes:
        face: the face model.
    """

    def __init__(self, config: Any, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        self.face = load_face_model(config.face_model)

    def train_dataset(self) -> Dataset:
        """Speech with motion."""
        return speech_datasets(self.config.data, self.config.features, self.face)[0]

    def validation_dataset(self) -> Dataset:
        """Held-out speech with motion."""
        return speech_datasets(self.config.data, self.config.features, self.face)[1]

    def collate(self, items: list[list[Sample]]) -> Sample:
        """Lists of samples -> a padded batch."""
        return collate(items)

    def one_optimizer(self, name: str, official: Callable[[int], float], warmup: int = 0) -> list[OptimizerSpec]:
        """An Adam over the module `name`.

        Args:
            official: step -> rate, for `decay: exponential`; linear: from `learning_rate` to 0 at the end of training.
            warmup: steps in which the linear rate rises from 0.
        """
        config = self.config

        def rate(step: int, progress: float) -> float:
            if config.decay == "exponential":
                return official(step)
            return config.learning_rate * min(1.0, (step + 1) / max(warmup, 1)) * (1 - progress)

        group = ParameterGroup(name=name, parameters=list(self.modules[name].parameters()), rate=rate)
        return [OptimizerSpec(name=name, groups=[group])]
