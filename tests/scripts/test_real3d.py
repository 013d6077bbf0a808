"""The one command: what it passes on to which, and the same when it is installed."""

import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modules.media.video_writer import VideoWriter
from scripts import real3d
from scripts.real3d import COMMANDS, main
from tests.conftest import ROOT


@pytest.fixture
def passed(monkeypatch):
    """passed("talk", ...) -> what the command behind it was given."""

    def call(name: str, *arguments: str) -> list[str]:
        given = []
        monkeypatch.setattr(f"{COMMANDS[name].module}.main", lambda rest: given.append(rest) or 7)
        assert main([name, *arguments]) == 7
        return given[0]

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_each_name_stands_for_a_command_that_takes_arguments(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0 and COMMANDS[name].module in capsys.readouterr().out
    assert callable(import_module(COMMANDS[name].module).main)


def test_a_driver_acts_by_what_is_in_it(passed, tmp_path):
    speech, clip = tmp_path / "speech.wav", tmp_path / "clip.mp4"
    soundfile.write(speech, np.zeros(4000, np.float32), 16_000)
    with VideoWriter(clip, (64, 48)) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    assert passed("talk") == [] and passed("talk", "--seed", "1") == ["--seed", "1"]
    assert passed("talk", "a.jpg", "--seed", "1") == ["--source", "a.jpg", "--seed", "1"]
    assert passed("talk", "a.jpg", str(speech)) == ["--source", "a.jpg", "--audio", str(speech)]
    driving = ["--source", "a.jpg", "--driving", str(clip), "--threads", "1"]
    assert passed("talk", "a.jpg", str(clip), "--threads", "1") == driving
    assert passed("talk", "a.jpg", "m.json") == ["--source", "a.jpg", "--motion", "m.json"]
    assert passed("talk", "a.jpg", "m.json", "more") == ["--source", "a.jpg", "--motion", "m.json", "more"]


def test_a_driver_that_is_none_is_one_line(tmp_path, capsys):
    (tmp_path / "a.wav").write_text("no sound")
    for path, words in ((tmp_path / "a.wav", "cannot be read as video or audio"), (tmp_path / "gone", "no file")):
        assert main(["talk", "a.jpg", str(path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate"])
def test_a_config_of_the_repository_is_found_from_any_folder(passed, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert passed(name, "configs/i2p.yaml", "steps=3") == [str(ROOT / "configs/i2p.yaml"), "steps=3"]
    Path("configs").mkdir()
    Path("configs/i2p.yaml").touch()
    assert passed(name, "configs/i2p.yaml") == ["configs/i2p.yaml"]
    assert passed(name, "gone.yaml") == ["gone.yaml"] and passed(name, "--keys") == ["--keys"]


def test_others_are_passed_on_as_they_are(passed):
    assert passed("serve", "--port", "0") == ["--port", "0"] and passed("verify", "a.mp4") == ["a.mp4"]


def test_help_is_a_line_for_each_and_loads_nothing_slow():
    code = "import sys; from scripts.real3d import main; print(main([]), main(['-h']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "0 0 False" and len(lines) == 2 * (len(COMMANDS) + 2) + 1
    assert all(any(f"real3d {name} " in line for line in lines) for name in COMMANDS)


def test_an_unknown_name_is_one_line(capsys):
    assert (
        main(["verfy"]) == 2 and capsys.readouterr().err == "error: there is no command verfy; did you mean verify?\n"
    )
    assert main(["dance"]) == 2 and "use talk, app, serve" in capsys.readouterr().err


def test_an_install_without_checkpoints_refuses_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(real3d, "DEMO_CHECKPOINT", tmp_path / "gone")
    assert main(["talk"]) == 2
    error = capsys.readouterr().err
    assert "pip install -e ." in error and error.count("\n") == 1


@pytest.mark.slow
def test_it_is_installed_into_a_fresh_environment_and_works_from_any_folder(tmp_path):
    """The packages that it needs are those of this environment: to get them anew would take minutes and gigabytes."""
    checkout, environment, elsewhere = tmp_path / "check out", tmp_path / "environment", tmp_path / "elsewhere"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", "*.egg-info", "infer_out", "runs", "tests", ".*_cache"
    )
    shutil.copytree(ROOT, checkout, ignore=left_out)
    elsewhere.mkdir()

    def run(*command: object) -> subprocess.CompletedProcess:
        return subprocess.run([str(part) for part in command], cwd=elsewhere, capture_output=True, text=True)

    assert run(sys.executable, "-m", "venv", environment).returncode == 0
    bins = environment / ("Scripts" if sys.platform == "win32" else "bin")
    packages = run(bins / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    Path(packages, "those_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    install = [bins / "python", "-m", "pip", "install", "--no-deps", "--quiet"]
    installed = run(*install, "-e", checkout)
    if "No matching distribution found for setuptools" in installed.stderr:
        pytest.skip("pip cannot get setuptools: no network")
    assert installed.returncode == 0, installed.stderr

    talk = run(bins / "real3d", "talk", "--seconds", "0.2", "--size", "256", "--threads", "1", "--output", "talk.mp4")
    assert talk.returncode == 0 and "5 frames of 256 x 256" in talk.stdout, talk.stderr
    assert [path.name for path in elsewhere.iterdir()] == ["talk.mp4"]
    verify = run(bins / "real3d", "verify", "talk.mp4")
    assert verify.returncode == 0 and verify.stdout.startswith("mark: Synthetic")
    requires = run(bins / "python", "-c", "from importlib import metadata; print(metadata.requires('real3d-portrait'))")
    assert "torch" in requires.stdout and "c2pa-python" in requires.stdout

    assert run(*install, checkout).returncode == 0  # not editable
    refused = run(bins / "real3d", "talk")
    assert refused.returncode == 2 and "pip install -e ." in refused.stderr and refused.stderr.count("\n") == 1
