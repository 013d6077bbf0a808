"""The check of a GPU, on a CPU: small stages of the demo take the same way."""

import json
from pathlib import Path

import pytest
import torch

from modules.clips.format import Clip
from scripts import check_gpu
from scripts.check_gpu import FULL_STAGES, NOBODY, Result, Stage, check_processes, main, report, stand_in_clips
from tasks.engine.settings import read_settings
from tests.conftest import ROOT

SMALL = {
    "syncnet": Stage(
        str(ROOT / "configs/demo/syncnet.yaml"),
        ("features=hubert", "model.audio_size=1024", NOBODY, "data.folder={work}/clips", "data.validation_folder=''",
         "pairs=16", "loader.workers=0"),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in clips, small."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_gpu, "CLIP_SIZE", 32)
        stand_in_clips(folder / "clips")
    return folder


def test_a_stage_is_measured_and_compared_with_float32(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(work), "--steps", "3", "--device", "cpu"], SMALL) == 0
    [stage] = json.loads((work / "gpu.json").read_text())["stages"]
    assert (stage["stage"], stage["steps"], stage["outside"]) == ("syncnet", 3, [])
    assert stage["images_per_second"] > 0 and stage["gigabytes"] > 0.1
    rounded, exact = stage["losses"]["loss/sync"]
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.05, abs=0.01)
    out = capsys.readouterr().out
    assert "syncnet: 3 steps" in out and "group of one process: right" in out


def test_a_loss_out_of_bounds_is_named(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_gpu, "RELATIVE", 0.0)
    monkeypatch.setattr(check_gpu, "ABSOLUTE", 0.0)
    assert main(["--output", str(work), "--steps", "1", "--device", "cpu"], SMALL) == 2
    printed = capsys.readouterr()
    assert "  loss/sync: " in printed.out and "out of bounds: syncnet" in printed.err


def test_a_run_that_fails_and_wrong_options_are_one_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"syncnet": Stage(SMALL["syncnet"].config, ("no_such_key=1",))}
    assert main(["--output", str(work), "--device", "cpu"], broken) == 2
    assert "ended with exit code 2" in capsys.readouterr().err
    assert main(["--output", str(work), "--device", "cpu", "--steps", "0"], SMALL) == 2
    assert "--steps is 0" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["--output", str(work)]) == 2
        assert "no CUDA device" in capsys.readouterr().err


def test_stand_ins_are_clips(work: Path) -> None:
    clip = Clip(work / "clips" / "clip_1")
    assert clip.stored_speech("hubert") == (80, "praat") and clip.frames([3]).shape == (1, 32, 32, 3)


@pytest.mark.parametrize("name", FULL_STAGES)
def test_the_settings_of_every_full_stage_are_read(name: str, tmp_path: Path) -> None:
    stage = FULL_STAGES[name]
    settings = [setting.replace("{work}", str(tmp_path)) for setting in (*check_gpu.SHORT, *stage.settings)]
    assert read_settings(ROOT / stage.config, settings).resolved["task"] == name


def test_a_group_of_one_process_adds_up(tmp_path: Path) -> None:
    assert check_processes(torch.device("cpu"), tmp_path / "group")


def test_the_report_has_a_line_for_each_stage_and_each_fault() -> None:
    lines: list[str] = []
    report([Result("htbsr", 50, 2.5, 7.25, {"loss/image": (0.2, 0.1)}, ("loss/image",))], False, lines.append)
    assert lines == [
        "htbsr: 50 steps, 2.50 images/s, 7.2 GiB, 1 losses compared",
        "  loss/image: 0.2, on the CPU in float32 0.1",
        "group of one process: WRONG",
    ]
