import pytest
import torch

from modules.system.checkpoint import load_state, read_config, save_checkpoint
from scripts.export_checkpoint import main


@pytest.fixture
def run(tmp_path):
    """A training run whose checkpoint holds more than inference needs."""
    folder = tmp_path / "ein Lauf" / "checkpoints" / "step_00000003"
    save_checkpoint(folder, {"task": "htbsr", "model": {"a": 1}, "steps": 3},
                    {"image_to_plane": torch.nn.Linear(2, 2), "discriminator": torch.nn.Linear(2, 2)}, {"step": 3})
    return tmp_path / "ein Lauf"


def test_only_what_inference_needs_is_exported_in_half_precision(run, tmp_path):
    assert main(["--portrait", str(run), "--output", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "portrait"
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "image_to_plane.safetensors"]
    assert read_config(folder) == {"model": {"a": 1}}
    assert load_state(folder, "image_to_plane")["weight"].dtype == torch.float16


def test_full_precision_keeps_the_weights(run, tmp_path):
    main(["--portrait", str(run), "--output", str(tmp_path / "out"), "--full-precision"])
    source = load_state(run / "checkpoints" / "step_00000003", "image_to_plane")
    assert torch.equal(load_state(tmp_path / "out" / "portrait", "image_to_plane")["weight"], source["weight"])


@pytest.mark.parametrize("options", [[], ["--audio2motion", "{run}"], ["--portrait", "nowhere"]])
def test_what_cannot_be_exported_is_refused_in_one_line(run, tmp_path, capfd, options):
    assert main([o.format(run=run) for o in options] + ["--output", str(tmp_path / "out")]) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
