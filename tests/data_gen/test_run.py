import pytest

from data_gen import run
from data_gen.clip_format import list_clips


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"source: procedural\nfolder: {tmp_path / 'clips'}\npeople: 1\nframes: 2\nsize: 32\n"
                    "pncc_size: 0\nworkers: 1\n", encoding="utf-8")
    return path


def test_a_config_makes_its_clips(config, tmp_path):
    assert run.main([str(config), "first_seed=7"]) == 0
    assert [path.name for path in list_clips(tmp_path / "clips")] == ["person_000007"]


@pytest.mark.parametrize("override", ["source=nothing", "peeple=3", "frames=0"])
def test_wrong_settings_are_explained(config, override, capsys):
    assert run.main([str(config), override]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error:") and message.count("\n") == 1
