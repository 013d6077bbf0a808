import pytest
import torch

from tasks.stages.learning_rates import LearningRates
from tasks.stages.syncnet import SHIFTS, cut, sample_pairs
from tests.tasks.steps import Steps
from tests.tasks.terms import gain_of_best_metric
from tests.tasks.tiny_speech import sync_task


def test_pairs_stay_inside_their_clips_and_keep_the_proportions(generator):
    lengths = torch.tensor([30, 60, 45])
    pairs = sample_pairs(lengths, 2000, generator)
    audio_start = pairs.start + pairs.shift
    assert (pairs.start >= 0).all() and (pairs.start + 5 <= lengths[pairs.mouth]).all()
    assert (audio_start >= 0).all() and (audio_start + 5 <= lengths[pairs.audio]).all()
    assert pairs.label.mean() == pytest.approx(0.4, abs=0.01)


def test_a_negative_is_never_nearly_in_sync(generator):
    pairs = sample_pairs(torch.tensor([60, 60]), 2000, generator)
    same = pairs.mouth == pairs.audio
    assert (pairs.shift[pairs.label == 1] == 0).all() and same[pairs.label == 1].all()
    assert pairs.shift[(pairs.label == 0) & same].abs().min() >= SHIFTS[1][0]


def test_one_clip_alone_gives_no_false_negatives(generator):
    pairs = sample_pairs(torch.tensor([60]), 500, generator)
    assert pairs.shift[pairs.label == 0].abs().min() >= 2


def test_cut_takes_the_named_windows():
    sequence = torch.arange(20.0).view(2, 10, 1)
    assert cut(sequence, torch.tensor([1, 0]), torch.tensor([2, 5]), 3)[..., 0].tolist() == [[12, 13, 14], [5, 6, 7]]


def test_training_lowers_the_loss(face):
    task = sync_task(learning_rates=LearningRates(schedule="linear", generator=3e-3))
    data = task.train_dataset()
    batch = task.collate([data[i] for i in range(4)])
    take_step = Steps(task)
    history = [take_step(batch, step)["sync"] for step in range(25)]
    assert sum(history[-3:]) < 0.8 * sum(history[:3])
    task.modules["syncnet"].eval()
    with torch.no_grad():
        assert 0 <= task.validation_step(batch)["window_sync_accuracy"] <= 1


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(face, generator):
    task = sync_task(learning_rates=LearningRates(schedule="linear", generator=3e-3))
    data = task.train_dataset()
    batch = task.collate([data[i] for i in range(4)])
    motion = torch.randn(4, 40, 64, generator=generator).cumsum(dim=1)[:, 8:]  # never repeats, and the sound tells all
    heard = motion @ torch.randn(64, 80, generator=generator) / 8
    batch |= {"expression": motion / 4, "audio": heard.repeat_interleave(2, dim=1) / 4}
    assert gain_of_best_metric(task, batch, steps=40) > 0.05
