import pytest

from data_gen import run
from data_gen.faces import FaceLimits
from data_gen.videos import VideoDataConfig
from modules.clips.format import list_clips
from modules.system.config import from_dict, load_yaml
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
    assert capsys.readouterr().out == f"{tmp_path / 'clips'}: 1 clips of 1 people, 0.0 min\n"
    assert [path.name for path in list_clips(tmp_path / "clips")] == ["person_000007"]


@pytest.mark.parametrize("override", ["source=nothing", "peeple=3", "frames=0"])
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
