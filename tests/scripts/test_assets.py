import shutil
from pathlib import Path

import pytest

from modules.system import download
from modules.system.assets import ANALYSIS, FILE_GROUPS, manifest
from scripts import assets as command


def test_list_shows_size_licence_and_how_to_get_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "face_landmarker.task").touch()
    assert command.main(["--assets", str(tmp_path), "list"]) == 0
    text = capsys.readouterr().out
    for asset in manifest().values():
        assert asset.name in text and asset.licence in text
    groups, _, files = text.partition("\n\n")
    lines = {line.split()[0]: line for line in files.splitlines() if not line.startswith(" ")}
    assert " here " in lines["face_landmarker.task"] and "3.8 MB" in lines["face_landmarker.task"]
    assert " missing " in lines["selfie_segmenter.tflite"]
    assert " by hand " in lines["BFM_model_front.mat"] and "faces.dmi.unibas.ch" in text
    states = {line.split()[0]: line for line in groups.splitlines()[1:]}
    assert list(states) == list(FILE_GROUPS)
    assert " 2 missing " in states["photo"] and "(2 by hand)" in states["own-clips"]


def test_fetch_takes_names_and_groups_and_leaves_alone_what_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
):
    fetched = []
    monkeypatch.setattr(download, "fetch", lambda asset, folder: fetched.append(asset.name) or folder / asset.name)
    (tmp_path / ANALYSIS[0]).touch()
    assert command.main(["--assets", str(tmp_path), "fetch", "photo", "vgg_face_dag.pth"]) == 0
    assert fetched == [*ANALYSIS[1:], "vgg_face_dag.pth"]
    assert "non-commercial" in capsys.readouterr().out


def test_fetch_gets_what_it_can_of_a_group_and_explains_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch
):
    fetched = []
    monkeypatch.setattr(download, "fetch", lambda asset, folder: fetched.append(asset.name) or folder / asset.name)
    assert command.main(["--assets", str(tmp_path), "fetch", "own-clips"]) == 2
    assert fetched == [*ANALYSIS]
    error = capsys.readouterr().err
    assert "ict_facekit.npz: clone" in error and "convert_ict" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "name, words", [("face_landmarker", "did you mean face_landmarker.task"), ("BFM_model_front.mat", "register")]
)
def test_fetch_explains_what_it_cannot_get(tmp_path: Path, capsys: pytest.CaptureFixture, name: str, words: str):
    assert command.main(["--assets", str(tmp_path), "fetch", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1


@pytest.fixture
def findings(tmp_path: Path, capsys: pytest.CaptureFixture):
    """check() -> exit code and the lines printed, with an assets folder of its own."""

    def check() -> tuple[int, list[str]]:
        code = command.main(["--assets", str(tmp_path), "check"])
        return code, capsys.readouterr().out.splitlines()

    return check


def test_check_says_what_stops_which_command(findings, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(command, "DEMO_CHECKPOINT", tmp_path / "demo")
    code, lines = findings()
    assert code == 2
    stops = [line for line in lines if line.startswith("stop")]
    assert any("face_landmarker.task is missing; for: inference.run" in line for line in stops)
    assert any("portrait" in line and "inference.run without --checkpoint" in line for line in stops)
    assert all(line[:4].strip() in ("ok", "note", "stop") for line in lines)


def test_check_is_content_where_everything_needed_is_there(findings, tmp_path: Path, monkeypatch, assets: Path):
    for name in ANALYSIS:
        shutil.copy(assets / name, tmp_path / name)
    for name in ("portrait", "audio2motion", "whisper"):
        (tmp_path / "demo" / name).mkdir(parents=True)
        (tmp_path / "demo" / name / "config.yaml").touch()
    monkeypatch.setattr(command, "DEMO_CHECKPOINT", tmp_path / "demo")
    code, lines = findings()
    assert code == 0, lines
    assert any("video encoder" in line for line in lines) and any("PyTorch" in line for line in lines)


def test_check_notices_a_damaged_file(findings, tmp_path: Path):
    (tmp_path / "face_landmarker.task").write_bytes(b"half")
    assert any("face_landmarker.task has another checksum" in line for line in findings()[1])
