from dataclasses import replace

import pytest
import torch

from tasks.stages.syncnet import SyncNetTask, SyncNetTaskConfig
from tests.tasks.tiny_speech import DATA, SYNC, face

__all__ = ["face"]                   # a fixture


@pytest.fixture
def task(face) -> SyncNetTask:
    config = SyncNetTaskConfig(model=SYNC, features="mel", face_model="procedural", data=DATA, pairs=64)
    return SyncNetTask(config, torch.Generator().manual_seed(0))


def test_training_and_validation_speak_different_sentences(task):
    first, other = task.train_dataset()[0][0]["expression"], task.validation_dataset()[0][0]["expression"]
    assert first.shape == other.shape and not torch.equal(first, other)


def test_one_adam_has_all_parameters_and_the_rate_that_decay_names(task):
    def rates(decay: str) -> list[float]:
        task.config = replace(task.config, decay=decay)
        spec, = task.one_optimizer("syncnet", lambda step: 7.0 + step, warmup=4)
        assert len(spec.groups[0].parameters) == len(list(task.modules["syncnet"].parameters()))
        return [spec.groups[0].rate(step, progress) for step, progress in ((0, 0.0), (9, 0.5), (10, 1.0))]

    rate = task.config.learning_rate
    assert rates("exponential") == [7.0, 16.0, 17.0]
    assert rates("linear") == pytest.approx([rate / 4, rate / 2, 0.0])
