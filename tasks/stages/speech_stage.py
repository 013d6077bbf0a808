"""SpeechTask, the base class of the two speech stages: data, face model, one Adam over one network."""

from functools import cached_property
from typing import Any

import torch
from torch.utils.data import Dataset

from modules.audio.features import PitchKind
from modules.face_models import FACE_MODEL_FILES, load_face_model
from modules.system.errors import UserError, note
from tasks.data.speech_clips import Sample, collate, speech_datasets
from tasks.engine.task import OptimizerSpec, ParameterGroup, Task
from tasks.stages.learning_rates import LearningRates
from tasks.stages.warm_start import SPEECH_PART, check_speech, source_of, warm_start


class SpeechTask(Task):
    """Base class of the tasks on speech with motion; their configs have features, face_model, data,
    learning_rates, init_from.

    Attributes:
        face: the face model, which turns expressions into landmarks.
        parts: folders of a checkpoint such as checkpoints/demo that `init_from` looks into; a part that lacks the
            network still says whose expressions and features it knows.
        pitch: the tracker whose pitch the task reads; None: it reads none.
    """

    parts: tuple[str, ...] = (SPEECH_PART,)
    pitch: PitchKind | None = None

    def __init__(self, config: Any, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        self.face = load_face_model(config.face_model)

    def begin(self) -> None:
        if start := self.config.init_from:
            check_speech(start, self.config.features, self.config.face_model, self.parts)
            present = tuple(name for name in self.modules if source_of(start, name, self.parts))
            warm_start(start, self.modules, present, self.parts)
            for name in self.modules.keys() - set(present):
                note(f"{start} has no {name}: it starts fresh")

    @classmethod
    def files(cls, config: Any, fresh: bool) -> list[tuple[str, ...]]:
        return [(name,) for name in FACE_MODEL_FILES.get(config.face_model, ())]

    @cached_property
    def datasets(self) -> tuple[Dataset, Dataset | None]:
        """Clips of speech with motion to train on, and held-out ones; built once, since that opens every clip.

        Raises:
            UserError: there are none, or their features have another size than the network listens to.
        """
        train, validation = speech_datasets(self.config.data, self.config.features, self.face, self.pitch)
        size, expected = train.audio_size, self.config.model.audio_size
        if size != expected:
            raise UserError(
                f"the {self.config.features} features of the speech have {size} numbers a frame, model.audio_size is "
                f"{expected}; set model.audio_size={size}"
            )
        return train, validation

    def train_dataset(self) -> Dataset:
        """Clips of speech with motion, to train on."""
        return self.datasets[0]

    def validation_dataset(self) -> Dataset | None:
        """Held-out clips of speech with motion."""
        return self.datasets[1]

    @property
    def held_out(self) -> list[str]:
        return [clip.name for clip in getattr(self.datasets[1], "clips", ())]

    def collate(self, items: list[list[Sample]]) -> Sample:
        """Make a padded batch of lists of samples."""
        return collate(items)

    def optimizers(self) -> list[OptimizerSpec]:
        """One Adam over the one module of the task."""
        rates: LearningRates = self.config.learning_rates
        ((name, module),) = self.modules.items()
        group = ParameterGroup(
            name=name,
            parameters=list(module.parameters()),
            rate=lambda step, progress: rates.at(rates.generator, step, progress),
        )
        return [OptimizerSpec(name=name, groups=[group], betas=(rates.beta1, 0.999))]
