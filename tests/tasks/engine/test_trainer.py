import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import modules.system.checkpoint
import tasks.engine.trainer
from modules.system.checkpoint import find_checkpoint, list_checkpoints, load_state
from tasks.engine.optimization import build_optimizer
from tasks.engine.task import Metric, OptimizerSpec, ParameterGroup, constant
from tasks.run import main
from tests.conftest import ROOT
from tests.tasks.helpers import all_weights, metrics, run_toy, same_bits, toy_arguments
from tests.tasks.toy import Points, Toy

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    assert run_toy(folder) == 0
    return folder / "run"


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    assert run_toy(tmp_path, "steps=150", "noise=0", "dropout=0") == 0
    losses = metrics(tmp_path / "run", "loss/fit")
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_a_run_repeats_itself_to_the_bit_and_another_seed_does_not(tmp_path: Path, reference: Path) -> None:
    run_toy(tmp_path)
    run_toy(tmp_path, "seed=1", output="other")
    assert same_bits(all_weights(tmp_path / "run"), all_weights(reference))
    assert not same_bits(all_weights(tmp_path / "other"), all_weights(reference))


def test_a_killed_run_resumes_to_the_same_bits_with_other_workers(tmp_path: Path, reference: Path) -> None:
    command = [sys.executable, "-m", "tasks.run", *toy_arguments(tmp_path, "die_at=13", "loader.workers=1")]
    killed = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert [folder.name for folder in list_checkpoints(tmp_path / "run")] == ["step_00000005", "step_00000010"]
    assert run_toy(tmp_path, "loader.workers=2") == 0
    assert same_bits(all_weights(tmp_path / "run"), all_weights(reference))
    assert metrics(tmp_path / "run", "loss/fit") == metrics(reference, "loss/fit")


def test_only_a_run_that_starts_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(task: Toy) -> None:
        task.modules["scale"].weight.data.fill_(7.0)  # not trained

    def refuse(task: Toy) -> None:
        raise AssertionError("a resumed run needs no published weights")

    monkeypatch.setattr(Toy, "begin", fill)
    assert run_toy(tmp_path, "steps=2") == 0
    monkeypatch.setattr(Toy, "begin", refuse)
    assert run_toy(tmp_path, "steps=4") == 0
    assert [float(load_state(folder, "scale")["weight"]) for folder in list_checkpoints(tmp_path / "run")] == [7.0] * 2


def test_validation_and_pictures_do_not_change_the_training(tmp_path: Path, reference: Path) -> None:
    run_toy(tmp_path, "log.validate_every=3", "log.pictures_every=7", "log.videos_every=9", "log.tensorboard=true")
    run = tmp_path / "run"
    assert same_bits(all_weights(run), all_weights(reference))
    pictures = [f"{step:08d}_points.png" for step in (0, 7, 14, 20)]
    videos = [f"{step:08d}_points.gif" for step in (0, 9, 18, 20)]
    assert sorted(path.name for path in (run / "pictures").iterdir()) == sorted(pictures + videos)


def test_tensorboard_shows_losses_rates_norms_speed_pictures_and_videos(tmp_path: Path) -> None:
    run_toy(tmp_path, "log.validate_every=10", "log.pictures_every=10", "log.videos_every=20", "log.tensorboard=true")
    board = EventAccumulator(str(tmp_path / "run/tensorboard"), size_guidance={"images": 0}).Reload()
    assert {
        "loss/fit",
        "loss/r1",
        "rate/first",
        "rate/all",
        "gradient_norm/generator",
        "speed/images_per_second",
        "validation/loss",
        "metric/largest",
        "time/data",
        "time/rest",
    } <= set(board.Tags()["scalars"])
    kinds = [event.encoded_image_string[:4] for event in board.Images("points")]
    assert [kinds.count(kind) for kind in (b"\x89PNG", b"GIF8")] == [3, 2]
    assert len(board.Scalars("loss/fit")) == 20


def test_bf16_trains_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    low = ("precision=bf16-mixed", "loader.batch=8")
    assert run_toy(tmp_path, *low) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/checkpoints/step_00000020")
    assert run_toy(tmp_path, *low, output="again") == 0
    run_toy(tmp_path, *low, "precision=32-true", output="high")
    assert same_bits(all_weights(tmp_path / "run"), all_weights(tmp_path / "again"))
    assert not same_bits(all_weights(tmp_path / "run"), all_weights(tmp_path / "high"))
    torch.testing.assert_close(
        metrics(tmp_path / "run", "loss/fit"), metrics(tmp_path / "high", "loss/fit"), rtol=0.1, atol=0.05
    )


def test_bf16_is_for_the_networks_and_not_for_reading_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, used = set(), set()
    item, step = Points.__getitem__, Toy.validation_step

    def reading(data: Points, index: int) -> dict[str, torch.Tensor]:
        read.add(torch.is_autocast_enabled("cpu"))
        return item(data, index)

    def using(task: Toy, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        used.add(torch.is_autocast_enabled("cpu"))
        return step(task, batch)

    monkeypatch.setattr(Points, "__getitem__", reading)
    monkeypatch.setattr(Toy, "validation_step", using)
    assert run_toy(tmp_path, "precision=bf16-mixed", "steps=2", "loader.workers=0", "log.validate_every=1") == 0
    assert (read, used) == ({False}, {True})


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    run_toy(tmp_path, "log.validate_every=2", "rate=0.3")
    losses = metrics(tmp_path / "run", "validation/loss")
    best = torch.load(tmp_path / "run/checkpoints/best/trainer.pt", weights_only=True)
    assert best["best"] == pytest.approx(min(losses), rel=1e-6)
    assert best["step"] == 2 * (losses.index(min(losses)) + 1)


def test_the_config_names_the_metric_that_picks_the_best(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    validating = ("log.validate_every=5", "checkpoint.select=best")
    assert run_toy(tmp_path, *validating, "checkpoint.metric=sharpness") == 2
    assert "checkpoint.metric is sharpness, but the validation of the task toy gives loss" in capsys.readouterr().err
    assert run_toy(tmp_path, *validating, "checkpoint.metric=loss", output="named") == 0
    assert find_checkpoint(tmp_path / "named").name == "best"
    assert run_toy(tmp_path, "checkpoint.select=best", "checkpoint.best=false", output="none") == 2
    assert "select is best, but best is false" in capsys.readouterr().err


def test_without_a_metric_no_checkpoint_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Toy, "best_metric", "")
    assert run_toy(tmp_path, "log.validate_every=5") == 0
    assert not (tmp_path / "run/checkpoints/best").exists()
    assert find_checkpoint(tmp_path / "run").name == "step_00000020"
    assert run_toy(tmp_path, "checkpoint.select=best", output="other") == 2
    assert "checkpoint.select is best, but no metric of the task toy" in capsys.readouterr().err


def test_the_best_of_another_metric_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validating = ("log.validate_every=5",)
    run_toy(tmp_path, *validating, "steps=10")
    both = lambda self, batch: {"loss": torch.tensor(1.0), "larger": torch.tensor(9.0)}  # noqa: E731
    monkeypatch.setattr(Toy, "validation_step", both)
    assert run_toy(tmp_path, *validating, "steps=20", "checkpoint.metric=larger") == 0
    assert torch.load(tmp_path / "run/checkpoints/best/trainer.pt", weights_only=True)["best"] == 9.0


def test_an_optimiser_state_of_another_schedule_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_toy(tmp_path, "steps=5")
    optimizers = Toy.optimizers
    capsys.readouterr()
    one_group = lambda task: [replace(spec, groups=spec.groups[:1]) for spec in optimizers(task)]  # noqa: E731
    monkeypatch.setattr(Toy, "optimizers", one_group)
    assert run_toy(tmp_path, "steps=6") == 2
    error = capsys.readouterr().err
    assert "step_00000005: the state of the optimiser generator is of other parameters" in error
    assert error.strip().count("\n") == 0 and "Traceback" not in error
    monkeypatch.setattr(Toy, "optimizers", lambda task: [replace(s, betas=(0.5, 0.9)) for s in optimizers(task)])
    assert run_toy(tmp_path, "steps=6") == 2
    expected = "the optimiser generator had betas (0.9, 0.999), in this config it has (0.5, 0.9); keep it as it was"
    assert expected in capsys.readouterr().err


def test_accumulated_batches_equal_one_big_batch(tmp_path: Path) -> None:
    still = ("noise=0", "dropout=0")
    run_toy(tmp_path, *still, "loader.batch=4", output="big")
    run_toy(tmp_path, *still, "loader.batch=2", "accumulate=2", output="small")
    torch.testing.assert_close(
        metrics(tmp_path / "small", "loss/fit"), metrics(tmp_path / "big", "loss/fit"), rtol=1e-5, atol=1e-6
    )


STILL = ("noise=0", "dropout=0", "log.validate_every=10", "log.pictures_every=10")


def run_two(folder: Path, *overrides: str, output: str = "two") -> None:
    """Train in two processes that share the batch of 4."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tasks.run",
        *toy_arguments(folder, *STILL, "loader.batch=2", *overrides, output=output),
    ]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def same_curves(first: Path, second: Path) -> None:
    for name in ("loss/fit", "loss/discriminator", "loss/r1", "gradient_norm/generator", "validation/loss"):
        one, two = metrics(first, name), metrics(second, name)
        assert len(one) > 1
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("strategy, clip, validated", [("ddp", 1.0, 1), ("fsdp", 1.0, 4), ("fsdp", 0.1, 1)])
def test_two_processes_equal_one_with_the_same_samples_per_step(
    tmp_path: Path, strategy: str, clip: float, validated: int
) -> None:
    own = (f"clip={clip}", f"loader.validation_batch={validated}", "log.validation_batches=1")
    run_toy(tmp_path, *STILL, *own, output="one")
    run_two(tmp_path, f"strategy={strategy}", *own)
    same_curves(tmp_path / "one", tmp_path / "two")
    one, two = all_weights(tmp_path / "one"), all_weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.9, 0.0])
def test_sharded_checkpoints_are_those_of_one_process(tmp_path: Path, ema: float) -> None:
    average = f"ema={ema}"
    run_toy(tmp_path, *STILL, average, output="one")
    run_two(tmp_path, "strategy=fsdp", average, "checkpoint.keep=4")
    for number in (15, 20):  # as if killed after step 10
        shutil.rmtree(tmp_path / f"two/checkpoints/step_{number:08d}")
    shutil.copytree(tmp_path / "two", tmp_path / "half")
    assert run_toy(tmp_path, *STILL, average, output="half") == 0  # two processes, then one
    same_curves(tmp_path / "one", tmp_path / "half")
    run_two(tmp_path, "strategy=fsdp", average, "loader.batch=1", "accumulate=2")  # two, then two others
    same_curves(tmp_path / "one", tmp_path / "two")


def test_a_loss_that_is_not_a_number_stops_before_it_spoils_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_toy(tmp_path, "nan_at=7") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: broken is not finite at step 7") and "step_00000005" in error
    saved = torch.load(next((tmp_path / "run").glob("not_finite*.pt")), weights_only=True)
    assert saved["step"] == 7 and saved["batch"]["x"].shape == (4, 3) and saved["optimizer"] == "generator"
    assert all(t.isfinite().all() for t in all_weights(tmp_path / "run").values())


def test_bad_data_stops_the_run_with_the_batch_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy(tmp_path, "bad_item=11", "checkpoint.every=1") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: fit, adversarial is not finite at step ") and "look for bad data" in error
    saved = torch.load(next((tmp_path / "run").glob("not_finite*.pt")), weights_only=True)
    (bad,) = saved["batch"]["index"][saved["batch"]["x"].isnan().any(dim=1)].tolist()
    assert bad == 11
    assert list_checkpoints(tmp_path / "run")[-1].name == f"step_{saved['step']:08d}"
    assert run_toy(tmp_path) == 0  # the data is mended: on from there


def test_a_disk_that_cannot_take_the_bad_batch_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(state: dict, path: Path) -> None:
        if "not_finite" in str(path):
            raise RuntimeError("PytorchStreamWriter failed\nwriting file")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    assert run_toy(tmp_path, "nan_at=7") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "broken is not finite at step 7; the batch could not be saved" in error and "step_00000005" in error


def test_a_validation_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    assert run_toy(tmp_path, "log.validate_every=5", "bad_validation=true", "steps=10") == 0
    assert not (tmp_path / "run/checkpoints/best").exists()
    assert run_toy(tmp_path, "log.validate_every=5") == 0
    best = torch.load(tmp_path / "run/checkpoints/best/trainer.pt", weights_only=True)["best"]
    assert best == pytest.approx(min(metrics(tmp_path / "run", "validation/loss")[2:]))


def test_a_best_checkpoint_that_is_newer_than_the_saved_step_is_not_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_toy(tmp_path, "steps=10") == 0
    (tmp_path / "run/checkpoints/best").mkdir()  # killed between writing it and the next step's
    capsys.readouterr()
    assert run_toy(tmp_path, "steps=12") == 0
    reported = capsys.readouterr().err
    assert "finished 12 steps" in reported and "best loss" not in reported


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_resumes_to_the_same_bits(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    step = Toy.training_step

    def interrupted(self: Toy, batch: dict, at: int, optimizer: str, state: object) -> dict:
        if at == 7 and optimizer == "generator":
            os.kill(os.getpid(), number)
        return step(self, batch, at, optimizer, state)

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "training_step", interrupted)
        try:
            assert run_toy(tmp_path) == code
        except SystemExit as stop:
            assert stop.code == code
    assert list_checkpoints(tmp_path / "run")[-1].name == "step_00000008"
    assert run_toy(tmp_path) == 0
    assert same_bits(all_weights(tmp_path / "run"), all_weights(reference))


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_the_last_checkpoint(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = modules.system.checkpoint.save_file

    def full(state: dict, path: Path) -> None:
        if "step_00000010" in str(path) and "discriminator" in path.name:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(modules.system.checkpoint, "save_file", full)
        assert run_toy(tmp_path) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step_00000005"]
    assert run_toy(tmp_path) == 0
    assert same_bits(all_weights(tmp_path / "run"), all_weights(reference))


def test_the_saved_weights_are_the_averages_and_the_raw_ones_stay_for_resuming(reference: Path) -> None:
    flat = all_weights(reference)
    assert not torch.equal(flat["generator/0.weight"], flat["raw/generator/0.weight"])
    assert torch.equal(flat["generator/0.weight"], load_state(list_checkpoints(reference)[-1], "generator")["0.weight"])


def test_a_group_with_the_rate_0_does_not_move_nor_gather_moments(tmp_path: Path) -> None:
    run_toy(tmp_path, "freeze_until=100", "ema=0", "checkpoint.keep=4")
    folders = list_checkpoints(tmp_path / "run")
    first, last = load_state(folders[0], "generator"), load_state(folders[-1], "generator")
    assert torch.equal(first["0.weight"], last["0.weight"])
    assert not torch.equal(first["3.weight"], last["3.weight"])
    assert "generator/0/exp_avg" not in all_weights(tmp_path / "run")


def test_an_optimiser_runs_from_its_start_every_so_many_steps(reference: Path) -> None:
    # start 2, every 2: steps 3, 5, ..., 19; the task lets it rest at 3, 11 and 19
    assert len(metrics(reference, "loss/discriminator")) == 6
    assert len(metrics(reference, "loss/fit")) == 20


def test_a_time_budget_ends_the_run_with_rates_that_fell_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = count(step=3.0)  # a step takes 3 seconds
    monkeypatch.setattr(tasks.engine.trainer, "time", SimpleNamespace(monotonic=lambda: next(times)))
    assert run_toy(tmp_path, "steps=100000", "max_minutes=1", "checkpoint.every=100000") == 0
    rates = metrics(tmp_path / "run", "rate/last")
    assert len(rates) == 20 and rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(rates[0] / 20)
    assert len(list_checkpoints(tmp_path / "run")) == 1


def test_only_the_newest_checkpoints_and_the_milestones_stay(tmp_path: Path) -> None:
    run_toy(tmp_path, "checkpoint.every=2", "checkpoint.keep=2", "checkpoint.milestone=6")
    names = [int(folder.name.removeprefix("step_")) for folder in list_checkpoints(tmp_path / "run")]
    assert names == [6, 12, 18, 20]


def test_progress_lines_report_the_step_the_losses_the_speed_and_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(tmp_path, "log.every=10", "log.pictures_every=20", "log.validate_every=20", "log.tensorboard=true")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 10/20  ") and "fit" in lines[0] and "images/s" in lines[0]
    paths = ("checkpoints/step_00000020", "checkpoints/best", "pictures", "metrics.jsonl", "tensorboard")
    assert lines[-1].startswith("finished 20 steps") and all(str(tmp_path / "run" / p) in lines[-1] for p in paths)


def test_a_run_from_trained_weights_says_what_they_were_worth_and_who_validates(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Toy, "warm", True)
    monkeypatch.setattr(Toy, "held_out", ["anna", "bert", "carl", "dora"])
    run_toy(tmp_path, "log.validate_every=10")
    assert same_bits(all_weights(tmp_path / "run"), all_weights(reference))  # looking changes nothing
    run_toy(tmp_path, "log.validate_every=10", "steps=30")  # resumes, and still knows the beginning
    lines = capsys.readouterr().err.splitlines()
    assert "validates: anna, bert, carl and 1 more" in lines
    losses = metrics(tmp_path / "run", "validation/loss")
    assert len(losses) == 4  # before the first step, after 10, 20 and 30
    assert f"validation loss {losses[0]:.5g} -> {losses[3]:.5g}" in lines[-1]


@pytest.mark.parametrize("better, worse", [("lower", False), ("higher", True)])
def test_a_run_that_never_reaches_what_it_started_from_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], better: str, worse: bool
) -> None:
    monkeypatch.setattr(Toy, "warm", True)
    monkeypatch.setattr(Toy, "metrics", {"loss": Metric("distance to the line", better)})  # it falls in any case
    run_toy(tmp_path, "log.validate_every=10")
    losses, last = metrics(tmp_path / "run", "validation/loss"), capsys.readouterr().err.splitlines()[-1]
    assert losses[0] > max(losses[1:])
    assert ("worse than at the start: train longer, or keep the weights" in last) == worse


def test_a_fresh_run_is_not_compared_with_its_random_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run_toy(tmp_path, "log.validate_every=10")
    said = capsys.readouterr().err
    assert len(metrics(tmp_path / "run", "validation/loss")) == 2 and "->" not in said and "validates" not in said


def test_signals_are_as_before_after_training(tmp_path: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    main(toy_arguments(tmp_path, "steps=1"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_weight_decay_shrinks_weights_by_itself_and_not_through_the_gradient() -> None:
    weight = torch.nn.Parameter(torch.tensor([4.0]))
    group = ParameterGroup(name="all", parameters=[weight], rate=constant(0.1))
    optimizer = build_optimizer(OptimizerSpec(name="one", groups=[group], weight_decay=0.5))
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(4 * (1 - 0.1 * 0.5))


def test_losses_are_logged_without_their_weights_too(tmp_path: Path) -> None:
    run_toy(tmp_path, "steps=4")
    weighted, plain = (metrics(tmp_path / "run", f"{group}/adversarial") for group in ("loss", "unweighted"))
    assert [value / 10 for value in plain] == pytest.approx(weighted) and len(plain) == 4
    assert not metrics(tmp_path / "run", "unweighted/fit")  # whose weight the task does not tell
