from collections.abc import Callable
from pathlib import Path

import pytest

from modules.system.checkpoint import list_checkpoints, newest_whole, read_config
from tasks.run import default_output, main
from tests.conftest import ROOT
from tests.tasks.helpers import metrics, run_toy, toy_arguments, toy_config


def error_of(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert lines[-1].startswith("error: ")
    return lines[-1]


def test_the_output_folder_follows_the_config(tmp_path: Path) -> None:
    assert default_output(Path("configs/i2p.yaml")) == Path("runs/i2p")
    assert default_output(Path("configs/demo/i2p.yaml")) == Path("runs/demo/i2p")
    assert default_output(tmp_path / "mine.yaml") == Path("runs/mine")


@pytest.mark.parametrize(
    "override, expected",
    [
        ("stpes=5", "unknown key stpes; did you mean steps?"),
        ("model.widht=5", "unknown key model.widht; did you mean width?"),
        ("steps=many", "steps must be a whole number, not 'many'"),
        ("steps=0", "steps 0 >= 1"),
        ("loader.batch=0", "batch 0 >= 1"),
        ("seed=-1", "seed is -1"),
        ("seed=9223372036854775808", "seed is 9223372036854775808"),
        ("max_minutes=.nan", "max_minutes is nan"),
        ("task=i3p", "unknown task: i3p; did you mean i2p?"),
        ("task=tests.tasks.nothing", "cannot be imported"),
        ("steps", "key=value"),
        ("precision=fp8", "precision is 'fp8'"),
        ("strategy=zero", "strategy is 'zero'; the choices are ddp, fsdp"),
        ("log.every=0", "every 0 >= 1"),
        ("items=0", "the training data is empty; check the data folder"),
        ("model.preset=huge", "model.preset is huge; the choices are demo"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str
) -> None:
    assert expected in error_of(run_toy(tmp_path, override), capsys)


@pytest.mark.parametrize(
    "config, override, name",
    [
        ("i2p", "rates.kind=linear", "learning_rates"),
        ("a2m", "learning_rate=1e-3", "learning_rates.generator"),
        ("syncnet", "decay=linear", "learning_rates.schedule"),
        ("motion_adapter", "stop_i2p=9", "freeze_image_to_plane_at"),
        ("htbsr", "source_every=9", "self_reenactment_every"),
        ("htbsr", "data.held_out=9", "data.split"),
        ("a2m", "data.validation_every=50", "data.split.validation (a share of the people)"),
    ],
)
def test_the_error_about_a_key_of_an_older_version_names_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, override: str, name: str
) -> None:
    arguments = [str(ROOT / f"configs/{config}.yaml"), override, "--output", str(tmp_path / "run")]
    error = error_of(main(arguments), capsys)
    assert f"unknown key {override.partition('=')[0].removesuffix('.kind')}" in error and name in error


def test_a_wrong_key_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text("clipp: 1.0\n")
    (tmp_path / "mine.yaml").write_text("base: base.yaml\ntask: tests.tasks.toy\n")
    error = error_of(main([str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "run")]), capsys)
    assert f"{tmp_path / 'base.yaml'}: unknown key clipp; did you mean clip?" in error
    assert not (tmp_path / "run").exists()


def test_a_missing_config_and_one_without_a_task_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot read the config" in error_of(main([str(tmp_path / "no.yaml")]), capsys)
    (tmp_path / "empty.yaml").write_text("")
    assert "names no task" in error_of(main([str(tmp_path / "empty.yaml")]), capsys)


def test_a_device_that_is_not_there_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = toy_arguments(tmp_path)[:-1]
    assert "use --device cpu" in error_of(main([*arguments, "cuda:99"]), capsys)


def test_the_resolved_config_is_saved_with_the_run_and_can_be_run_again(tmp_path: Path) -> None:
    run_toy(tmp_path, "steps=3", "model.preset=demo")
    saved = read_config(tmp_path / "run")
    assert saved["steps"] == 3 and saved["model"] == {"width": 4} and saved["clip"] == 1.0
    assert dict(read_config(list_checkpoints(tmp_path / "run")[-1])) == dict(saved)
    again = [str(tmp_path / "run/config.yaml"), "--output", str(tmp_path / "again"), "--device", "cpu"]
    assert main(again) == 0
    assert metrics(tmp_path / "again", "loss/fit") == metrics(tmp_path / "run", "loss/fit")


def test_a_run_of_another_model_or_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path, "steps=2")
    assert "has another model: model.width changed" in error_of(run_toy(tmp_path, "model.width=9"), capsys)
    saved = tmp_path / "run/config.yaml"
    saved.write_text(saved.read_text().replace("tests.tasks.toy", "i2p"))
    assert "is a checkpoint of the task i2p" in error_of(run_toy(tmp_path), capsys)


def test_other_changes_are_reported_and_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path, "steps=2")
    assert run_toy(tmp_path, "steps=4", "rate=0.001") == 0
    assert "resuming from step 2; changed: rate, steps" in capsys.readouterr().err
    assert len(metrics(tmp_path / "run", "loss/fit")) == 4


def test_fresh_starts_anew_and_keeps_the_old_run_aside(tmp_path: Path) -> None:
    run_toy(tmp_path, "steps=2")
    for _ in range(2):
        assert main([*toy_arguments(tmp_path, "steps=3"), "--fresh"]) == 0
    assert len(metrics(tmp_path / "run", "loss/fit")) == 3
    assert len(metrics(tmp_path / "run.old", "loss/fit")) == 2
    assert (tmp_path / "run.old2").is_dir()


def test_resume_needs_something_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to resume" in error_of(main([*toy_arguments(tmp_path), "--resume"]), capsys)


def test_a_damaged_checkpoint_is_reported_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path, "steps=2")
    state = list_checkpoints(tmp_path / "run")[-1] / "trainer.pt"
    state.write_bytes(state.read_bytes()[:300])
    assert f"{state} is damaged" in error_of(run_toy(tmp_path, "steps=4"), capsys)


def test_a_config_is_not_replaced_by_the_resolved_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_config(tmp_path).rename(tmp_path / "config.yaml")
    before = config.read_bytes()
    message = error_of(main([str(config), "steps=1", "--output", str(tmp_path), "--device", "cpu"]), capsys)
    assert "would replace the config" in message and config.read_bytes() == before
    assert main([str(config), "steps=1", "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0
    own = tmp_path / "run" / "config.yaml"
    assert main([str(own), "steps=2", "--output", str(tmp_path / "run"), "--device", "cpu"]) == 0  # a run goes on


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    "harm, name",
    [
        (cut, "generator.safetensors"),
        (lambda path: path.write_bytes(b""), "discriminator.safetensors"),
        (cut, "trainer.pt"),
        (Path.unlink, "trainer.pt"),
        (Path.unlink, "config.yaml"),
        (Path.unlink, "generator.safetensors"),
        (lambda path: path.write_text("a: [1"), "config.yaml"),
    ],
)
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], object], name: str, resume: list[str]
) -> None:
    limits = ["steps=4", "checkpoint.every=2", "checkpoint.keep=1", "checkpoint.milestone=2"]
    run_toy(tmp_path, *limits)
    older, newest = list_checkpoints(tmp_path / "run")
    harm(newest / name)
    capsys.readouterr()
    assert main([*toy_arguments(tmp_path, *limits), *resume]) == 0
    lines = capsys.readouterr().err.splitlines()
    [note] = [line for line in lines if line.startswith("note: ")]
    assert str(newest) in note and f"going back to {older}" in note and note.endswith("step_00000004.damaged")
    assert any(line.startswith("resuming from step 2") for line in lines)
    assert list_checkpoints(tmp_path / "run") == [older, newest]
    assert newest_whole(tmp_path / "run") == (newest, {})


def test_settings_may_stand_before_and_after_options(tmp_path: Path) -> None:
    arguments = [str(toy_config(tmp_path)), "steps=1", "--output", str(tmp_path / "run"), "--device", "cpu", "rate=0.5"]
    assert main(arguments) == 0
    assert read_config(tmp_path / "run")["rate"] == 0.5


@pytest.mark.parametrize(
    "config, overrides, expected",
    [
        ("i2p", ["teacher=eg3d", "loss.mask=1"], "loss.mask is 1.0, but needs head_raw"),
        ("i2p", ["model.superresolution=null"], "give either superresolution (stages 1 and 2) or htbsr"),
        ("demo/i2p", ["views.sources=9"], "sources is 9"),
        ("demo/motion_adapter", ["data.pncc_size=64", "init_from=''"], "the motion adapter reads 128"),
        ("demo/htbsr", ["data.torso=false"], "stage 3 needs torso"),
        ("a2m", ["sync_checkpoint=''"], "sync_checkpoint is empty"),
        ("demo/syncnet", ["features=mel"], "model.audio_size is 384; change one of them"),
        ("a2m", ["features=mel"], "features mel have 80 numbers a frame, model.audio_size is 1024"),
        ("demo/syncnet", ["features=hubert", "data.folder="], "procedural speech has no hubert features"),
        (
            "demo/motion_adapter",
            ["data.folder=nowhere", "init_from=''"],
            "no prepared clips in nowhere; make some with",
        ),
        ("demo/htbsr", ["data.folder={empty}", "init_from=''"], "no prepared clips in "),
        ("demo/a2m", ["data.folder={empty}"], "no prepared clips in "),
        ("demo/motion_adapter", ["init_from={empty}"], "no checkpoint in "),
        ("i2p", ["loss.perceptual=0", "loss.perceptual_raw=0", "eg3d.snapshot=none.pkl"], "none.pkl"),
        ("i2p", ["initial_weights=image"], "did you mean imagenet?"),
        ("demo/i2p", ["initial_weights=imagenet"], "or start from random weights: initial_weights=none"),
    ],
)
def test_combinations_that_cannot_be_and_data_that_is_not_there_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, overrides: list[str], expected: str
) -> None:
    overrides = [override.format(empty=tmp_path) for override in overrides]
    arguments = [str(ROOT / f"configs/{config}.yaml"), *overrides, "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert expected in error_of(main(arguments), capsys)


VGG = {"vgg19-dcbb9e9d.pth", "vgg_face_dag.pth"}


@pytest.mark.parametrize(
    "config, overrides, files",
    [
        ("i2p", [], {*VGG, "resnet34-b627a593.pth", "ffhqrebalanced512-128.pkl"}),
        ("motion_adapter", [], {*VGG, "mit-b0", "BFM_model_front.mat"}),
        ("ablations/no_pretraining", [], {*VGG, "mit-b0", "resnet34-b627a593.pth", "BFM_model_front.mat"}),
        ("htbsr", [], {*VGG, "BFM_model_front.mat"}),
        ("htbsr", ["model.driving.face_model=ict"], {*VGG, "ict_facekit.npz", "ict_mp468.npz"}),
        ("syncnet", ["face_model=ict"], {"ict_facekit.npz", "ict_mp468.npz"}),
        ("a2m", ["face_model=ict"], {"ict_facekit.npz", "ict_mp468.npz"}),
    ],
)
def test_all_files_that_a_full_config_lacks_are_named_at_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    overrides: list,
    files: set,
) -> None:
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    monkeypatch.setattr("modules.system.assets.DEFAULT_FOLDER", tmp_path / "none")
    arguments = [str(ROOT / f"configs/{config}.yaml"), *overrides, "--output", str(tmp_path / "run"), "--device", "cpu"]
    error = error_of(main(arguments), capsys)
    named = error.split(f"files are missing in {tmp_path} or {tmp_path / 'none'}: ")[1].split(";")[0]
    assert set(named.split(", ")) == files
    assert "get them with: python -m scripts.assets fetch " in error or "ict_facekit.npz: clone" in error


def test_a_stage_cannot_start_from_a_checkpoint_of_another_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(tmp_path, "steps=1")
    arguments = [
        str(ROOT / "configs/demo/htbsr.yaml"),
        f"init_from={tmp_path / 'run'}",
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "other"),
    ]
    error = error_of(main(arguments), capsys)
    assert "which has no weights of image_to_plane, motion_adapter, renderer" in error


def test_an_output_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "cannot write to" in error_of(run_toy(tmp_path, output="file/run"), capsys)


def test_keys_are_listed_and_a_key_of_another_stage_is_answered_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(ROOT / "configs" / "demo" / "htbsr.yaml")
    assert main([config, "--keys", "data.validation_folder="]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert '""' in lines["data.validation_folder"] and "float" in lines["loss.torso_cover"]
    assert "steps between checkpoints" in lines["checkpoint.every"]
    assert "[B, 4] int64: x0, x1, y0, y1 of a square around the lips" in lines["lip_boxes"]
    assert "here it is model.driving.face_model" in error_of(main([config, "face_model=ict"]), capsys)
    assert error_of(main([config, "data.max_clips=3"]), capsys).endswith("it is a key of the tasks syncnet, a2m")
