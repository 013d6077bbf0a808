from types import SimpleNamespace

import pytest
import torch

from modules.system.errors import UserError
from tasks.stages.learning_rates import LearningRates
from tests.tasks.tiny_speech import sync_task


def test_training_and_validation_speak_different_sentences(face):
    task = sync_task()
    first, other = task.train_dataset()[0][0]["expression"], task.validation_dataset()[0][0]["expression"]
    assert first.shape == other.shape and not torch.equal(first, other)


def test_the_data_sets_are_built_once(face, monkeypatch):
    built, train = [], SimpleNamespace(audio_size=80)
    monkeypatch.setattr("tasks.stages.speech_stage.speech_datasets", lambda *_: built.append(1) or (train, "held out"))
    task = sync_task()
    assert (task.train_dataset(), task.validation_dataset(), task.train_dataset()) == (train, "held out", train)
    assert built == [1]


def test_features_of_another_size_than_the_network_hears_are_refused_before_the_first_step(face, monkeypatch):
    others = SimpleNamespace(audio_size=384), None
    monkeypatch.setattr("tasks.stages.speech_stage.speech_datasets", lambda *_: others)
    with pytest.raises(UserError, match="have 384 numbers a frame, model.audio_size is 80; set model.audio_size=384"):
        sync_task().train_dataset()


def test_one_adam_has_all_parameters_the_rates_and_the_first_beta_of_the_config(face):
    task = sync_task(learning_rates=LearningRates(schedule="linear", generator=8e-3, warmup=4, beta1=0.5))
    (spec,) = task.optimizers()
    assert spec.name == "syncnet" and spec.betas == (0.5, 0.999)
    assert len(spec.groups[0].parameters) == len(list(task.modules["syncnet"].parameters()))
    rates = [spec.groups[0].rate(step, progress) for step, progress in ((0, 0.0), (9, 0.5), (10, 1.0))]
    assert rates == pytest.approx([2e-3, 4e-3, 0.0])
