import signal
import subprocess
import sys
import time

import pytest

from data_gen import run
from data_gen.faces import FaceLimits
from data_gen.sources.folder import VideoDataConfig
from modules.clips.format import list_clips
from modules.system.config import from_dict, load_yaml
from modules.system.config_keys import keys_of
from tests.conftest import ROOT


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"source: procedural\nfolder: {tmp_path / 'clips'}\npeople: 1\nframes: 2\nsize: 32\npncc_size: 0\nworkers: 1\n",
        encoding="utf-8",
    )
    return path


def test_a_config_makes_its_clips(config, tmp_path, capsys):
    assert run.main([str(config), "first_seed=7"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'clips'}: 1 clips of 1 people, 0.0 min of video\n"
    assert [path.name for path in list_clips(tmp_path / "clips")] == ["person_000007"]


def test_a_field_is_filled_into_finished_clips(config, tmp_path, capsys):
    assert run.main([str(config)]) == 0
    capsys.readouterr()
    assert run.main([str(config), "--add", "brightness"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'clips'}: brightness; 1 of 1 clips were without it\n"
    assert run.main([str(config), "--add", "brightness"]) == 0
    assert "0 of 1 clips" in capsys.readouterr().out
    assert run.main([str(config), "--add", "brightness", f"folder={tmp_path / 'none'}"]) == 2


@pytest.mark.parametrize("override", ["source=nothing", "peeple=3", "frames=0", "first_seed=-1"])
def test_wrong_settings_are_explained(config, override, capsys):
    assert run.main([str(config), override]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error:") and message.count("\n") == 1


def test_the_config_of_videos_builds_and_an_empty_folder_is_explained(tmp_path, capsys):
    path = ROOT / "configs" / "data" / "videos.yaml"
    settings = load_yaml(path)
    assert settings.pop("source") == "videos" and from_dict(VideoDataConfig, settings).limits == FaceLimits()
    assert run.main([str(path), f"videos={tmp_path}", f"folder={tmp_path / 'clips'}"]) == 2
    assert "no videos in" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["2024", "1e5", "no", "null", "talk [1080p]", "#1"])
def test_a_folder_of_videos_and_a_licence_may_have_any_name(tmp_path, monkeypatch, capsys, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    path = ROOT / "configs" / "data" / "videos.yaml"
    assert run.main([str(path), f"videos={name}", f"licence={name}", "folder=clips"]) == 2
    assert f"no videos in {name};" in capsys.readouterr().err
    assert from_dict(VideoDataConfig, {"videos": "x"}).licence == ""
    settings = load_yaml(path, [f"licence={name}"])
    settings.pop("source")
    assert from_dict(VideoDataConfig, settings).licence == name


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_leaves_whole_clips_alone(config, tmp_path, workers):
    process = subprocess.Popen(
        [sys.executable, "-m", "data_gen.run", config, "people=6", "frames=60", f"workers={workers}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    clips, end = tmp_path / "clips", time.monotonic() + 300
    while process.poll() is None and not list(clips.glob(".*.part/video.mp4")) and time.monotonic() < end:
        time.sleep(0.02)  # until a clip is being written
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 143 and message.endswith("stopped\n") and "Traceback" not in message
    assert [path.name for path in clips.glob("*") if not (path / "clip.npz").is_file()] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs" / "data").glob("*.yaml")))
def test_every_key_of_a_data_set_is_listed_and_explained(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main([str(ROOT / "configs" / "data" / f"{name}.yaml"), "--keys", "workers=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("workers")).split() == ["workers", "7", "int", "processes"]
    assert len({line.split()[0] for line in lines}) == len(lines) >= 7 and list(tmp_path.iterdir()) == []
    settings = load_yaml(ROOT / "configs" / "data" / f"{name}.yaml")
    assert settings.keys() - {"source"} <= {line.split()[0].partition(".")[0] for line in lines}
    keys = keys_of(run.read(ROOT / "configs" / "data" / f"{name}.yaml", [])[1])
    assert [key.name for key in keys if not key.meaning] == []
