import pytest
import torch

from tasks.engine.task import StepState
from tasks.stages.syncnet import SHIFTS, SyncNetTask, SyncNetTaskConfig, cut, sample_pairs, stepped_rate, told_apart
from tests.tasks.terms import gain_of_best_metric
from tests.tasks.tiny_speech import DATA, SYNC, face

__all__ = ["face"]                   # a fixture


def task_of() -> SyncNetTask:
    config = SyncNetTaskConfig(model=SYNC, features="mel", face_model="procedural", data=DATA, pairs=64)
    return SyncNetTask(config, torch.Generator().manual_seed(0))


def test_pairs_stay_inside_their_clips_and_keep_the_proportions(generator):
    lengths = torch.tensor([30, 60, 45])
    pairs = sample_pairs(lengths, 2000, generator)
    heard = pairs.start + pairs.shift
    assert (pairs.start >= 0).all() and (pairs.start + 5 <= lengths[pairs.mouth]).all()
    assert (heard >= 0).all() and (heard + 5 <= lengths[pairs.audio]).all()
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
    task = task_of()
    data = task.train_dataset()
    batch = task.collate([data[i] for i in range(4)])
    optimizer = torch.optim.Adam(task.modules["syncnet"].parameters(), lr=3e-3)
    history = []
    for step in range(25):
        state = StepState(progress=0.0, generator=torch.Generator().manual_seed(step % 3))
        loss = task.training_step(batch, step, "syncnet", state)["sync"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss))
    assert sum(history[-3:]) < 0.8 * sum(history[:3])
    task.modules["syncnet"].eval()
    with torch.no_grad():
        assert 0 <= task.validation_step(batch)["windows_told_apart"] <= 1


class Echo(torch.nn.Module):
    """A sync network that knows: both embeddings are the first number of the window."""

    def embed_audio(self, audio: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.stack([audio[:, 0, 0].cos(), audio[:, 0, 0].sin()], -1), dim=-1)

    def embed_mouth(self, points: torch.Tensor) -> torch.Tensor:
        return self.embed_audio(points)


def test_a_perfect_network_tells_all_clips_apart_and_one_that_is_late_none():
    phase = torch.rand(3, 40, generator=torch.Generator().manual_seed(0)) * 6
    audio, mask = phase.repeat_interleave(2, dim=1)[..., None], torch.ones(3, 40)
    clips, single = told_apart(Echo(), audio, phase[..., None], mask)
    assert clips == single == 1
    clips, single = told_apart(Echo(), audio, phase[..., None].roll(5, 1), mask)
    assert clips == 0 and single == pytest.approx(0.25, abs=0.15)    # against early: never; against late: by chance


def test_the_rate_falls_in_steps():
    assert [stepped_rate(s) for s in (0, 4999, 5000, 10**7)] == pytest.approx([1e-3, 1e-3, 9.8e-4, 5e-5])


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(face):
    task = task_of()
    data = task.train_dataset()
    assert gain_of_best_metric(task, task.collate([data[i] for i in range(4)]), steps=60) > 0.05
