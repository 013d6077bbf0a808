import os
import shutil

import pytest
import torch

from modules.audio.whisper import WhisperConfig, WhisperFeatures, load_whisper
from modules.portrait.build import build_portrait, load_portrait, read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.system.checkpoint import load_state, read_config, save_checkpoint
from modules.system.config import to_dict
from scripts.export_checkpoint import main
from tests.tiny import tiny_portrait_config


@pytest.fixture
def run(tmp_path):
    """A training run whose checkpoint holds more than inference needs."""
    folder = tmp_path / "ein Lauf" / "checkpoints" / "step_00000003"
    save_checkpoint(
        folder,
        {"task": "htbsr", "model": {"a": 1}, "steps": 3},
        {"image_to_plane": torch.nn.Linear(2, 2), "discriminator": torch.nn.Linear(2, 2)},
        {"step": 3},
    )
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


def test_the_lip_sync_expert_is_exported_with_what_it_hears_and_sees(tmp_path):
    settings = {"task": "syncnet", "model": {"base": 8}, "features": "mel", "face_model": "procedural", "pairs": 9}
    save_checkpoint(tmp_path / "r" / "checkpoints" / "step_00000001", settings, {"syncnet": torch.nn.Linear(2, 2)})
    assert main(["--syncnet", str(tmp_path / "r"), "--output", str(tmp_path / "out")]) == 0
    assert read_config(tmp_path / "out" / "syncnet").keys() == {"model", "features", "face_model"}
    assert load_state(tmp_path / "out" / "syncnet", "syncnet")["weight"].dtype == torch.float16


def in_old_words(config: Real3DPortraitConfig) -> dict:
    """The settings of a model as an earlier version wrote them (see modules/portrait/old_configs.py)."""
    model = to_dict(config)
    del model["motion_adapter"]["pncc_inputs"], model["htbsr"]["torso"]["steering"], model["head_prior"]
    model["motion_adapter"]["pictures"], model["htbsr"]["torso"]["version"] = 3, "v2"
    model["htbsr"]["fusion"] = "v2"
    return {**model, **model.pop("driving"), "rectification": None}


def test_a_run_of_an_earlier_version_is_exported_and_its_model_loads(tmp_path):
    config = tiny_portrait_config()
    model = build_portrait(config)
    save_checkpoint(
        tmp_path / "run" / "checkpoints" / "best",
        {"task": "htbsr", "source_every": 4, "model": in_old_words(config)},
        dict(model.named_children()),
    )
    assert main(["--portrait", str(tmp_path / "run"), "--output", str(tmp_path / "out"), "--full-precision"]) == 0
    folder = tmp_path / "out" / "portrait"
    assert read_portrait_config(folder) == config
    loaded, saved = load_portrait(folder, config).state_dict(), model.state_dict()
    assert loaded.keys() == saved.keys() and all(torch.equal(loaded[name], saved[name]) for name in saved)


@pytest.mark.parametrize("options", [[], ["--audio2motion", "{run}"], ["--portrait", "nowhere"]])
def test_what_cannot_be_exported_is_refused_in_one_line(run, tmp_path, capfd, options):
    assert main([o.format(run=run) for o in options] + ["--output", str(tmp_path / "out")]) == 2
    assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_not_exported_over_itself(run, tmp_path, capfd):
    shutil.copytree(run / "checkpoints" / "step_00000003", tmp_path / "mine" / "portrait")
    before = (tmp_path / "mine" / "portrait" / "image_to_plane.safetensors").read_bytes()
    assert main(["--portrait", str(tmp_path / "mine" / "portrait"), "--output", str(tmp_path / "mine")]) == 2
    assert "--output" in (message := capfd.readouterr().err) and "would replace --portrait" in message
    assert (tmp_path / "mine" / "portrait" / "image_to_plane.safetensors").read_bytes() == before


def test_exported_files_have_the_permissions_of_the_umask(run, tmp_path):
    former = os.umask(0o022)
    try:
        assert main(["--portrait", str(run), "--output", str(tmp_path / "out")]) == 0
    finally:
        os.umask(former)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {"portrait": 0o755, "config.yaml": 0o644, "image_to_plane.safetensors": 0o644}


def test_whisper_layers_go_with_the_model_that_hears_through_them(tmp_path):
    sizes = WhisperConfig(width=16, heads=2, layers=1, block=16, before=4, after=2)
    save_checkpoint(tmp_path / "layers", {"model": to_dict(sizes)}, {"whisper": WhisperFeatures(sizes)}, half=True)
    for features in ("mel", "whisper"):
        folder = tmp_path / f"run {features}" / "checkpoints" / "step_00000001"
        settings = {"task": "a2m", "model": {}, "features": features, "face_model": "procedural"}
        save_checkpoint(folder, settings, {"audio2motion": torch.nn.Linear(2, 2)}, {"step": 1})
        arguments = ["--audio2motion", str(folder.parent.parent), "--whisper", str(tmp_path / "layers")]
        for _ in range(2):  # again over its own output
            assert main([*arguments, "--output", str(tmp_path / features)]) == 0
    assert not (tmp_path / "mel" / "whisper").exists()
    assert load_whisper(tmp_path / "whisper" / "whisper").config == sizes


@pytest.mark.parametrize("pitch", ["world", None])
def test_the_pitch_that_was_heard_goes_with_the_model(tmp_path, pitch):
    settings = {"task": "a2m", "model": {}, "features": "mel", "face_model": "bfm"}
    settings |= {"pitch": pitch} if pitch else {}  # runs of earlier versions name none
    folder = tmp_path / "run" / "checkpoints" / "step_00000001"
    save_checkpoint(folder, settings, {"audio2motion": torch.nn.Linear(2, 2)}, {"step": 1})
    assert main(["--audio2motion", str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 0
    assert read_config(tmp_path / "out" / "audio2motion").get("pitch") == pitch


def test_a_checkpoint_of_several_parts_stands_for_its_part(tmp_path):
    settings = {"model": {}, "features": "mel", "face_model": "procedural"}
    for part in ("portrait", "audio2motion", "syncnet"):
        names = {"portrait": "htbsr"}.get(part, part)
        save_checkpoint(tmp_path / "demo" / part, settings, {names: torch.nn.Linear(2, 2)})
    demo = str(tmp_path / "demo")
    options = [option for part in ("portrait", "audio2motion", "syncnet") for option in (f"--{part}", demo)]
    assert main([*options, "--output", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"portrait", "audio2motion", "syncnet"}
    assert main([*options, "--output", demo]) == 2  # over itself
