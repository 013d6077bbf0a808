import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.portrait.build import build_portrait
from modules.system.checkpoint import list_checkpoints, save_checkpoint
from modules.system.config import load_yaml, to_dict
from tasks import ablate
from tasks.ablate import arguments_of, chosen_names, in_order, main, read_set
from tasks.engine.task import StepState, Task
from tasks.stages.syncnet import SyncNetTaskConfig
from tests.conftest import ROOT
from tests.tasks.helpers import TOY
from tests.tasks.tiny_images import pair_batch, view_batch, write_tiny_clips
from tests.tasks.toy import Toy

SET = ROOT / "configs" / "ablations"
NAMES = sorted(path.stem for path in SET.glob("*.yaml"))


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A folder of ablations of the toy task, with a demo of 6 steps."""
    folder = tmp_path / "ablations"
    (folder / "demo").mkdir(parents=True)
    (tmp_path / "toy.yaml").write_text(TOY.replace("validate_every: 0", "validate_every: 10"))
    (folder / "demo" / "toy.yaml").write_text("base: ../../toy.yaml\nsteps: 6\nmodel: {preset: demo}\n")
    (folder / "wide.yaml").write_text("base: ../toy.yaml\nmodel: {width: 16}\n")
    (folder / "noisy.yaml").write_text("base: ../toy.yaml\nnoise: 0.5\ndropout: 0\n")
    return folder


def run(toys: Path, *options: str) -> int:
    return main([str(toys), "--output", str(toys.parent / "runs"), "--device", "cpu", *options])


def table(toys: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((toys.parent / "runs" / "table.json").read_text())}


def error_of(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1
    return lines[0]


def test_each_ablation_is_measured_beside_its_baseline(toys, capsys):
    assert run(toys) == 0
    rows = table(toys)
    assert list(rows) == ["toy", "noisy", "wide"]
    assert rows["noisy"]["changed"] == ["noise=0.5", "dropout=0"] and rows["toy"]["changed"] == []
    loss = {name: row["metrics"]["loss"] for name, row in rows.items()}
    assert rows["wide"]["difference"]["loss"] == pytest.approx(loss["wide"] - loss["toy"])
    assert len(set(loss.values())) == 3
    assert rows["wide"]["parameters"]["generator"] == 2 * (rows["toy"]["parameters"]["generator"] - 2) + 2
    assert "discriminator" not in rows["toy"]["parameters"] and {row["steps"] for row in rows.values()} == {20}
    assert (toys.parent / "runs" / "table.md").read_text() in capsys.readouterr().out


def test_the_demo_replaces_the_base(toys):
    assert run(toys, "--demo", "--only", "noisy") == 0
    rows = table(toys)
    assert list(rows) == ["toy", "noisy"] and rows["toy"]["steps"] == rows["noisy"]["steps"] == 6
    assert rows["noisy"]["parameters"] == rows["toy"]["parameters"]


def test_all_runs_have_the_budget_that_is_asked_for(toys):
    assert run(toys, "--only", "noisy", "--steps", "4") == 0
    assert [row["steps"] for row in table(toys).values()] == [4, 4]
    runs = read_set(arguments_of([str(toys), "--minutes", "0.5"]))
    assert {run.settings.trainer.max_minutes for run in runs.values()} == {0.5}


def test_settings_of_all_runs_and_several_seeds(toys):
    assert run(toys, "--only", "wide", "--seeds", "2", "noise=0.1", "loader.batch=4") == 0
    rows = table(toys)
    assert len(set(rows["wide"]["seeds"])) == 2
    assert rows["wide"]["spread"]["loss"] > 0 and set(rows["wide"]["losses"]) and rows["wide"]["changed"] != []
    config = load_yaml(toys.parent / "runs" / "wide_seed1" / "config.yaml")
    assert config["noise"] == 0.1 and config["loader"]["batch"] == 4
    before = {path: path.stat().st_mtime_ns for path in (toys.parent / "runs").glob("*/result.json")}
    assert run(toys, "--only", "wide", "--seeds", "2", "noise=0.1", "loader.batch=4") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(before) == 4


def test_a_setting_that_no_stage_has_is_refused(toys, capsys):
    assert "no stage of this set has the key nose" in error_of(run(toys, "nose=0.1"), capsys)


def test_finished_runs_are_kept_and_the_table_grows(toys, capsys):
    assert run(toys, "--only", "noisy") == 0
    checkpoint = list_checkpoints(toys.parent / "runs" / "noisy")[-1]
    written = checkpoint.stat().st_mtime_ns
    assert run(toys) == 0
    assert checkpoint.stat().st_mtime_ns == written and list(table(toys)) == ["toy", "noisy", "wide"]
    assert capsys.readouterr().out.count("finished before") == 2
    assert run(toys, "--only", "wide") == 0
    assert list(table(toys)) == ["toy", "noisy", "wide"]


def test_a_stopped_set_resumes_where_it_was(toys, capsys, monkeypatch):
    assert run(toys) == 0
    expected = table(toys)["noisy"]["metrics"]
    incident, stops = Toy._incident, iter([True])

    def stop(task: Toy, step: int) -> None:
        if task.config.noise == 0.5 and step == 12 and next(stops, False):
            os.kill(os.getpid(), signal.SIGINT)
        incident(task, step)

    monkeypatch.setattr(Toy, "_incident", stop)
    again = toys.parent / "again"
    assert main([str(toys), "--output", str(again), "--device", "cpu"]) == 130
    assert [row["name"] for row in json.loads((again / "table.json").read_text())] == ["toy"]
    capsys.readouterr()
    assert main([str(toys), "--output", str(again), "--device", "cpu"]) == 0
    assert "resuming from step 13" in capsys.readouterr().err
    rows = {row["name"]: row for row in json.loads((again / "table.json").read_text())}
    assert rows["noisy"]["metrics"] == pytest.approx(expected) and rows["noisy"]["steps"] == 20


def test_an_ablation_of_what_a_small_config_lacks_is_not_trained(toys, capsys):
    (toys / "narrow.yaml").write_text("base: ../toy.yaml\nmodel: {width: 4}\n")
    assert run(toys, "--demo", "--only", "narrow") == 0
    assert "nothing changes" in capsys.readouterr().out
    assert not (toys.parent / "runs" / "narrow").exists()
    assert "(nothing at this size)" in table(toys)["narrow"]["changed"]


def test_mistakes_are_reported_in_one_line(toys, capsys, tmp_path):
    assert "unknown ablation: nosy; did you mean noisy?" in error_of(run(toys, "--only", "nosy"), capsys)
    (tmp_path / "empty").mkdir()
    assert "no ablations in" in error_of(main([str(tmp_path / "empty")]), capsys)
    (toys / "alone.yaml").write_text("noise: 0.5\n")
    assert "alone.yaml is no ablation" in error_of(run(toys), capsys)
    (toys / "alone.yaml").write_text("base: ../toy.yaml\nnose: 0.5\n")
    assert "unknown key nose; did you mean noise?" in error_of(run(toys), capsys)


def test_a_run_of_other_settings_is_not_mixed_in(toys, capsys):
    assert run(toys, "--only", "noisy") == 0
    (toys / "noisy.yaml").write_text("base: ../toy.yaml\nnoise: 0.7\ndropout: 0\n")
    assert "other settings (noise changed)" in error_of(run(toys, "--only", "noisy"), capsys)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--demo"],
            "no prepared clips in data/procedural/train, data/procedural/held_out; make them: python -m data_gen.run"
            " configs/data/procedural.yaml folder=data/procedural/train; python -m data_gen.run"
            " configs/data/procedural.yaml folder=data/procedural/held_out first_seed=900000 people=8",
        ),
        (
            [],
            "no prepared clips in data/celebv_hq; make them: python -m data_gen.run configs/data/videos.yaml"
            " folder=data/celebv_hq",
        ),
    ],
)
def test_missing_clips_are_reported_with_the_command_that_makes_them(options, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert line in error_of(main([str(SET), *options, "--only", "concat_fusion"]), capsys)
    error = error_of(main([str(SET), "--demo"]), capsys)  # of all stages at once
    assert all(f"data/{name}" in error for name in ("procedural/train", "procedural/held_out", "speech/train"))


def test_a_part_that_is_there_is_not_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny_clips(tmp_path / "data/procedural/train")
    error = error_of(main([str(SET), "--demo", "--only", "concat_fusion"]), capsys)
    assert "no prepared clips in data/procedural/held_out; make them" in error and "train" not in error


def test_clips_of_ones_own_may_validate_themselves(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny_clips(tmp_path / "own")
    error = error_of(main([str(SET), "data.folder=own", "--demo", "--only", "concat_fusion"]), capsys)
    assert error.endswith("or hold out people of own itself: data.validation_folder= with nothing behind it")


def test_a_start_may_be_a_checkpoint_that_videos_are_made_with(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny_clips(tmp_path / "data")
    options = ["data.folder=data", "data.validation_folder=", "--demo", "--only", "concat_fusion"]
    starts = f"init_from={ROOT / 'checkpoints/demo'}"
    runs = read_set(arguments_of([str(SET), starts, *options]))
    ablate.check(runs["concat_fusion"])  # raises if there is no checkpoint
    assert "holds no checkpoint" in error_of(main([str(SET), "init_from=nowhere", *options]), capsys)


def people(*options: str) -> dict[str, int]:
    runs = read_set(arguments_of([str(SET), "--demo", *options]))
    return {name: run.settings.task_config.views.people for name, run in runs.items() if name in ("i2p", "i2p_small")}


def test_no_more_people_are_rendered_than_a_short_run_shows(tmp_path):
    assert set(people().values()) == set(people("--steps", "200").values()) == {600}
    assert people("--steps", "5") == {"i2p": 15, "i2p_small": 15}  # of 3 a step
    assert set(people("--steps", "5", "views.people=40").values()) == {40}
    runs = read_set(arguments_of([str(SET), "--demo", "--steps", "5", f"views.cache={tmp_path}"]))
    assert ", after its teacher has rendered 15 people" in ablate.to_render(runs["i2p"])
    assert ablate.to_render(runs["motion_adapter"]) == ""


def test_every_training_is_counted(toys, capsys):
    (toys / "narrow.yaml").write_text("base: ../toy.yaml\nmodel: {width: 4}\n")
    assert run(toys, "--demo", "--seeds", "2") == 0
    said = capsys.readouterr().out
    assert [f"[{number}/6]" in said for number in range(1, 8)] == [True] * 6 + [False]
    assert "[2/6] toy (baseline, seed" in said and "[4/6] noisy" in said
    assert "narrow (" in said and "nothing changes at this size" in said


def test_what_a_run_starts_from_is_trained_before_it():
    runs = read_set(arguments_of([str(SET), "--demo"]))
    order = [run.name for run in in_order(runs, ["concat_fusion", "i2p_small_adapted"])]
    assert order == ["i2p", "motion_adapter", "htbsr", "concat_fusion", "i2p_small", "i2p_small_adapted"]
    assert runs["i2p_small_adapted"].settings.task_config.init_from == "runs/ablations/demo/i2p_small"
    assert runs["no_pretraining"].starts == () and runs["a2m_no_pitch"].starts == ("syncnet",)


def test_at_full_size_the_baselines_are_the_usual_runs(tmp_path, monkeypatch, capsys):
    runs = read_set(arguments_of([str(SET)]))
    assert str(runs["motion_adapter"].folder) == "runs/motion_adapter" and runs["motion_adapter"].starts == ()
    assert str(runs["no_laplacian"].folder) == "runs/ablations/no_laplacian"
    monkeypatch.setattr(ablate, "list_clips", lambda folder: [])
    monkeypatch.chdir(tmp_path)
    assert "starts from runs/i2p (init_from), which holds no checkpoint" in error_of(
        main([str(SET), "--only", "no_laplacian"]), capsys
    )


# ---- the ablations of the paper


@pytest.fixture(scope="module")
def sets() -> dict[str, dict[str, ablate.Run]]:
    return {"full": read_set(arguments_of([str(SET)])), "demo": read_set(arguments_of([str(SET), "--demo"]))}


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_something_at_both_sizes_in_a_few_lines(name, sets):
    assert 3 <= len((SET / f"{name}.yaml").read_text().splitlines()) <= 6
    for runs in sets.values():
        assert not ablate.changes_nothing(runs[name], runs)


def test_every_row_of_the_table_of_the_paper_is_there(sets):
    assert {
        "no_pretraining",
        "no_finetuning",
        "i2p_40m",
        "i2p_200m",
        "no_laplacian",
        "learned_keypoints",
        "concat_fusion",
        "no_inpainting",
    } <= set(chosen_names(sets["full"], None))


def test_the_scales_of_the_image_to_plane_network_have_their_numbers_of_parameters(sets):
    def millions(name: str) -> float:
        with torch.device("meta"):
            model = build_portrait(sets["full"][name].settings.task_config.model)
        return sum(p.numel() for p in model.image_to_plane.parameters()) / 1e6

    names = ("i2p_40m", "i2p_small", "i2p", "i2p_large_adapted", "i2p_200m_adapted")
    counts = [millions(name) for name in names]
    assert counts == pytest.approx([39.90, 62.07, 87.33, 154.67, 200.97], abs=0.01)  # docs/spec/head.md#3-5


def demo_batch(task: Task) -> dict[str, Tensor]:
    """One sample of noise at the size of the demo."""
    generator = torch.Generator().manual_seed(0)
    if task.name == "a2m":
        return task.collate([task.train_dataset()[0]])
    batch = view_batch(generator) if task.name.startswith("i2p") else pair_batch(generator)
    grown = {}
    for name, value in batch.items():
        if value.dtype in (torch.uint8, torch.bool):
            factor = 4 if name == "pncc" else 8
            value = value.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        grown[name] = value[:1]
    return grown


@pytest.fixture(scope="module")
def syncnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sync") / "syncnet"
    config = SyncNetTaskConfig(model=SyncNetConfig.demo(), features="whisper", face_model="procedural")
    save_checkpoint(folder, to_dict(config), {"syncnet": SyncNet(config.model)})
    return str(folder)


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_a_step_at_the_size_of_the_demo_that_differs_from_its_baseline(name, sets, syncnet):
    runs = sets["demo"]
    totals = []
    for run in (runs[name], runs[runs[name].baseline]):
        config = run.settings.task_config
        if run.settings.task.name == "a2m":
            config = replace(
                config,
                sync_checkpoint=syncnet,
                data=replace(config.data, folder="", validation_folder="", seconds=1.28),
            )
        else:
            config = replace(config, init_from="")
        torch.manual_seed(0)
        task = run.settings.task(config, torch.Generator().manual_seed(0))
        state = StepState(progress=0.0, generator=torch.Generator().manual_seed(0))
        order = task.order or tuple(spec.name for spec in task.optimizers())
        losses = {}
        for optimizer in order:
            losses |= task.training_step(demo_batch(task), 3, optimizer, state)
        total = sum(losses.values())
        if run.name == name:
            total.backward()
        assert torch.isfinite(total)
        rates = [group.rate(3, 0.1) for spec in task.optimizers() for group in spec.groups]
        totals.append((float(total.detach()), rates))
    if name != "no_pretraining":  # which differs in what it starts from
        assert totals[0] != totals[1]
