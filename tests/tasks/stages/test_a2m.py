from dataclasses import replace

import numpy as np
import pytest
import torch

from modules.audio.syncnet import SyncNet
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.engine.task import StepState
from tasks.stages.a2m import A2MConfig, A2MLossConfig, A2MTask
from tasks.stages.learning_rates import LearningRates
from tasks.stages.syncnet import SyncNetTaskConfig
from tests.tasks.steps import Steps
from tests.tasks.terms import gain_of_best_metric
from tests.tasks.tiny_speech import A2M, DATA, SYNC, a2m_task

LOSSES = A2MLossConfig(kl=0.02, kl_rise=1, expression=0.5, landmarks=0.5, laplacian=1.0, magnitude=0.1)


def state() -> StepState:
    return StepState(progress=0.0, generator=torch.Generator().manual_seed(0))


def batch_of(task: A2MTask, size: int = 4) -> dict[str, torch.Tensor]:
    data = task.train_dataset()
    return task.collate([data[i] for i in range(size)])


def saved_sync(folder, face_model: str = "procedural"):
    config = SyncNetTaskConfig(model=SYNC, features="mel", face_model=face_model, data=DATA)
    save_checkpoint(folder, to_dict(config), {"syncnet": SyncNet(SYNC)})
    return str(folder)


def test_a_checkpoint_with_a_folder_syncnet_is_one_of_the_sync_network(face, tmp_path):
    saved_sync(tmp_path / "demo" / "syncnet")
    task = a2m_task(replace(LOSSES, sync=0.2, sync_pairs=32), sync_checkpoint=str(tmp_path / "demo"))
    assert "syncnet" in task.frozen


def test_training_lowers_the_loss_of_a_batch(face):
    task = a2m_task(LOSSES, learning_rates=LearningRates(schedule="linear", generator=3e-3))
    take_step, batch = Steps(task), batch_of(task)
    history = [sum(take_step(batch, step).values()) for step in range(30)]
    assert np.mean(history[-3:]) < 0.5 * history[0]


def test_the_first_weights_come_from_the_generator(face):
    first, second = (a2m_task(LOSSES).modules["audio2motion"].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_sync_network_is_frozen_and_pulls_on_the_motion(face, tmp_path):
    task = a2m_task(replace(LOSSES, sync=0.2, sync_pairs=32), sync_checkpoint=saved_sync(tmp_path / "sync"))
    before = {k: v.clone() for k, v in task.frozen["syncnet"].state_dict().items()}
    terms = task.training_step(batch_of(task), 0, "audio2motion", state())
    terms["sync"].backward()
    decoder = task.modules["audio2motion"].vae.decoder.out_proj.weight
    assert decoder.grad.abs().max() > 0
    assert all(torch.equal(before[k], v) for k, v in task.frozen["syncnet"].state_dict().items())


def test_a_sync_loss_without_a_sync_network_is_refused(face, tmp_path):
    with pytest.raises(ValueError, match="loss.sync is 0.2"):
        A2MConfig(model=A2M, features="mel", data=DATA, loss=A2MLossConfig(sync=0.2))
    with pytest.raises(ValueError, match="no loss has a weight"):
        A2MConfig(model=A2M, features="mel", data=DATA)
    with pytest.raises(UserError, match="no checkpoint"):
        a2m_task(replace(LOSSES, sync=0.2), sync_checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="face_model=bfm, not procedural"):
        a2m_task(replace(LOSSES, sync=0.2), sync_checkpoint=saved_sync(tmp_path / "other", "bfm"))


def test_the_sync_network_of_a_checkpoint_is_used(face, tmp_path):
    task = a2m_task(replace(LOSSES, sync=0.2), sync_checkpoint=saved_sync(tmp_path / "sync"))
    assert not any(p.requires_grad for p in task.frozen["syncnet"].parameters())
    assert not task.frozen["syncnet"].training


def test_identity_may_be_predicted_with_the_expression(face, tmp_path):
    task = a2m_task(replace(LOSSES, sync=0.2, sync_pairs=32), sync_checkpoint=saved_sync(tmp_path / "sync"))
    landmarks_alone = replace(task.config.loss, expression=0.0)
    with pytest.raises(ValueError, match="loss.expression is .* set it to 0"):
        replace(task.config, model=replace(A2M, motion_size=144))
    config = replace(task.config, model=replace(A2M, motion_size=144), loss=landmarks_alone)
    whole = A2MTask(config, torch.Generator().manual_seed(0))
    batch = batch_of(whole)
    target = whole._target(batch)
    assert target.shape == (4, 32, 144) and torch.equal(target[:, 3, :80], batch["identity"])
    expected = whole.frozen["landmarks"](batch["identity"], batch["expression"])
    assert torch.allclose(whole._points("landmarks", target, batch), expected, atol=1e-4)
    terms = whole.training_step(batch, 0, "audio2motion", state())
    assert terms.keys() == task.training_step(batch, 0, "audio2motion", state()).keys() - {"expression"}
    sum(terms.values()).backward()
    with torch.no_grad():
        assert torch.isfinite(torch.as_tensor(whole.validation_step(batch)["loss"]))
        assert whole.pictures(batch)["expression"].shape[2] == 3
    with pytest.raises(ValueError, match="motion_size is 70"):
        replace(task.config, model=replace(A2M, motion_size=70))


def test_validation_and_pictures(face):
    task = a2m_task(LOSSES)
    task.modules["audio2motion"].eval()
    with torch.no_grad():
        metrics = task.validation_step(batch_of(task))
        picture = task.pictures(batch_of(task))["expression"]
    assert metrics["loss"] > 0 and -1 <= metrics["mouth_correlation"] <= 1
    assert picture.dtype == torch.uint8 and picture.shape[2] == 3 and picture.float().std() > 10


def test_the_divergence_is_annealed(face):
    task = a2m_task(replace(LOSSES, kl_rise=100, kl_hold=100))
    batch = batch_of(task)
    kl = [float(task.training_step(batch, step, "audio2motion", state())["kl"].detach()) for step in (0, 50, 100)]
    assert kl[0] == 0 and kl[2] == pytest.approx(2 * kl[1], rel=1e-4)


def test_every_weight_is_the_factor_of_its_term(face, tmp_path):
    start = replace(LOSSES, sync=0.2, sync_pairs=32, closure=0.3)
    batch, folder = batch_of(a2m_task(LOSSES)), saved_sync(tmp_path / "sync")

    def terms(**weights):
        torch.manual_seed(0)  # dropout
        return a2m_task(replace(start, **weights), sync_checkpoint=folder).training_step(
            batch, 1, "audio2motion", state()
        )

    plain = terms()
    assert plain.keys() == {"kl", "expression", "landmarks", "laplacian", "magnitude", "sync", "closure"}
    for weight in plain:
        doubled = terms(**{weight: 2 * getattr(start, weight)})
        for name in plain:
            torch.testing.assert_close(doubled[name], (1 + (name == weight)) * plain[name])


def test_motion_of_the_speech_alone_is_trained_through_the_flow(face):
    task = a2m_task(A2MLossConfig(prior=1.0, expression=0.5))
    model = task.modules["audio2motion"]
    for coupling in model.vae.prior_flow.flows[::2]:  # they start as the identity
        torch.nn.init.normal_(coupling.post.weight, std=0.1)
    batch = batch_of(task)
    terms = task.training_step(batch, 1, "audio2motion", state())
    terms["prior"].backward()
    assert all(coupling.post.weight.grad.abs().max() > 0 for coupling in model.vae.prior_flow.flows[::2])
    assert model.vae.encoder.out_proj.weight.grad is None
    twice = a2m_task(A2MLossConfig(prior=2.0, expression=0.5))
    twice.modules["audio2motion"].load_state_dict(model.state_dict())
    doubled = twice.training_step(batch, 1, "audio2motion", state())
    torch.testing.assert_close(doubled["prior"], 2 * terms["prior"], rtol=1e-3, atol=0)


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(face):
    task = a2m_task(LOSSES)
    assert gain_of_best_metric(task, batch_of(task), steps=30) > 0


@pytest.mark.parametrize("pairs, heard", [(64, 64), (3, 4)])
def test_the_sync_network_hears_as_many_windows_as_asked_for_and_each_clip_once_at_least(face, tmp_path, pairs, heard):
    task = a2m_task(replace(LOSSES, sync=0.2, sync_pairs=pairs), sync_checkpoint=saved_sync(tmp_path / "sync"))
    seen = []
    task.frozen["syncnet"].register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    task.training_step(batch_of(task), 0, "audio2motion", state())
    assert seen == [heard]


def test_an_utterance_is_validated_as_if_it_were_alone(face):
    """Padding is no speech: the end of a shorter utterance must not hear it."""
    task = a2m_task(LOSSES)
    task.modules["audio2motion"].eval()
    long, short = ({name: value[:1] for name, value in batch_of(task, i).items()} for i in (1, 2))
    frames = {"audio": 32, "f0": 32, "blink": 32, "expression": 16, "mask": 16}
    short = {name: value[:, : frames.get(name)] for name, value in short.items()}
    together = task.collate([[{name: value[0] for name, value in one.items()} for one in (long, short)]])
    motion, alone = task._generate(together), task._generate(short)
    torch.testing.assert_close(motion[1, :16], alone[0], atol=1e-5, rtol=1e-5)
    assert not motion[1, 16:].any() and motion[0, 16:].any()


def test_the_pitch_that_is_read_is_that_of_the_config(face):
    assert a2m_task(LOSSES, pitch="world").pitch == "world"
    deaf = A2MConfig(model=replace(A2M, pitch=False), features="mel", face_model="procedural", data=DATA, loss=LOSSES)
    assert A2MTask(deaf, state().generator).pitch is None  # any will do
