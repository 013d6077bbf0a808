import pickle
import subprocess

import numpy as np
import pytest
import torch

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.official.names import to_official
from modules.system.checkpoint import load_module, read_config
from modules.system.config import from_dict
from scripts.convert_checkpoint import main
from tasks.stages.a2m import load_syncnet


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A folder as the original's training leaves it: two steps of an audio-to-motion model in a legacy file."""
    folder = tmp_path_factory.mktemp("audio2secc vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = to_official(Audio2Motion(Audio2MotionConfig.full()).state_dict(), "audio2motion")
    content = {
        "epoch": 1,
        "global_step": 20,
        "checkpoint_callback_best": 1.0,
        "optimizer_states": [],
        "state_dict": {"model": state},
    }
    torch.save(content, folder / "model_ckpt_steps_20.ckpt", _use_new_zipfile_serialization=False)
    (folder / "model_ckpt_steps_3.ckpt").write_bytes(b"older")
    return folder


def refused(arguments, capfd) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_the_newest_file_of_a_folder_becomes_a_checkpoint_and_comes_back(official, tmp_path):
    assert main([str(official), str(tmp_path / "ours")]) == 0
    folder = tmp_path / "ours" / "audio2motion"
    model = Audio2Motion(from_dict(Audio2MotionConfig, read_config(folder)["model"]))
    load_module(folder, "audio2motion", model)
    assert main(["--back", str(folder), str(tmp_path / "new" / "back.ckpt")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["back.ckpt"]
    back = torch.load(tmp_path / "new" / "back.ckpt", weights_only=True)["state_dict"]["model"]
    original = torch.load(official / "model_ckpt_steps_20.ckpt", weights_only=True)["state_dict"]["model"]
    assert back.keys() == original.keys() and all(torch.equal(back[key], original[key]) for key in original)


@pytest.mark.parametrize("legacy", [True, False])
def test_scores_of_numpy_and_both_layouts_are_read(tmp_path, legacy):
    module = SyncNet(SyncNetConfig.full())
    content = {
        "epoch": np.int64(3),
        "checkpoint_callback_best": np.float64(0.5),
        "optimizer_states": [],
        "state_dict": {f"model.{key}": value for key, value in module.state_dict().items()},
    }
    torch.save(content, tmp_path / "new.ckpt", _use_new_zipfile_serialization=not legacy)
    names = ["new.ckpt"]
    if legacy:
        data = (tmp_path / "new.ckpt").read_bytes()
        old = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")  # before NumPy 2
        assert old != data
        (tmp_path / "old.ckpt").write_bytes(old)
        names.append("old.ckpt")
    for name in names:
        assert main([str(tmp_path / name), str(tmp_path / "ours")]) == 0
        assert load_syncnet(str(tmp_path / "ours" / "syncnet"), "hubert", "bfm").config == module.config


def test_a_missing_tensor_is_named(official, tmp_path, capfd):
    content = torch.load(official / "model_ckpt_steps_20.ckpt", weights_only=True)
    del content["state_dict"]["model"]["vae.decoder.out_proj.bias"]
    torch.save(content, tmp_path / "cut.ckpt")
    assert "vae.decoder.out_proj.bias" in refused([tmp_path / "cut.ckpt", tmp_path / "ours"], capfd)
    assert not (tmp_path / "ours").exists()


def test_another_network_is_recognised(official, tmp_path, capfd):
    assert "audio" in refused(["--as", "portrait", official, tmp_path / "ours"], capfd)


def test_damaged_foreign_and_missing_files_are_refused(official, tmp_path, capfd):
    content = torch.load(official / "model_ckpt_steps_20.ckpt", weights_only=True)
    torch.save(content, tmp_path / "zip.ckpt")
    for kind, whole in (("legacy", official / "model_ckpt_steps_20.ckpt"), ("new", tmp_path / "zip.ckpt")):
        data = whole.read_bytes()
        for name, size in (("start", 5), ("half", len(data) // 2), ("end", len(data) - 20)):
            (tmp_path / f"{kind}_{name}.ckpt").write_bytes(data[:size])
            assert f"{kind}_{name}.ckpt" in refused([tmp_path / f"{kind}_{name}.ckpt", tmp_path / "ours"], capfd)
    small = tmp_path / "small.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(3)}}, small, _use_new_zipfile_serialization=False)
    for size in range(0, small.stat().st_size, 7):
        (tmp_path / "cut.ckpt").write_bytes(small.read_bytes()[:size])
        assert "cut.ckpt" in refused([tmp_path / "cut.ckpt", tmp_path / "ours"], capfd)
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "text.ckpt").write_text("hello", encoding="utf-8")
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html><html>Quota exceeded</html>", encoding="utf-8")
    (tmp_path / "pointer.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"state_dict": [1, 2]}, tmp_path / "nolist.ckpt")
    torch.save({"state_dict": {"disc": {"a": torch.zeros(1)}}}, tmp_path / "disc.ckpt")
    torch.save({"a": 1}, tmp_path / "numbers.ckpt")
    torch.save({1: torch.zeros(1)}, tmp_path / "keys.ckpt")
    torch.save({}, tmp_path / "nothing.ckpt")
    for name in (
        "empty.ckpt",
        "text.ckpt",
        "page.ckpt",
        "pointer.ckpt",
        "list.ckpt",
        "nolist.ckpt",
        "disc.ckpt",
        "numbers.ckpt",
        "keys.ckpt",
        "nothing.ckpt",
        "absent",
    ):
        assert name in refused([tmp_path / name, tmp_path / "ours"], capfd)
    (tmp_path / "folder").mkdir()
    assert "folder" in refused([tmp_path / "folder", tmp_path / "ours"], capfd)
    assert not (tmp_path / "ours").exists()


def test_weights_of_an_unknown_network_are_named_by_their_first_tensors(tmp_path, capfd):
    torch.save({f"layer{i}.weight": torch.zeros(1) for i in range(9)}, tmp_path / "renamed.ckpt")
    line = refused([tmp_path / "renamed.ckpt", tmp_path / "ours"], capfd)
    assert "renamed.ckpt" in line and "layer0.weight, layer1.weight, layer2.weight" in line and "layer3" not in line


def test_another_architecture_is_named_by_its_first_tensors(tmp_path, capfd):
    small = Audio2Motion(Audio2MotionConfig.demo())
    state = to_official(small.state_dict(), "audio2motion", small)
    torch.save({"state_dict": {"model": state}}, tmp_path / "small.ckpt")
    line = refused([tmp_path / "small.ckpt", tmp_path / "ours"], capfd)
    assert "small.ckpt" in line and "missing: vae.encoder.wn.in_layers.3" in line
    assert "mouth_amp_embed [96] instead of [128]" in line


class _Attack:
    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __reduce__(self):
        return subprocess.call, (["touch", self.victim],)


def test_code_in_a_file_is_not_executed(tmp_path, capfd):
    victim = tmp_path / "executed"
    content = {"state_dict": {"model": {"vae.encoder.wn.x": torch.zeros(1), "y": _Attack(str(victim))}}}
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": _Attack(str(victim))}, protocol=2))
    torch.save(content, tmp_path / "evil_legacy.ckpt", _use_new_zipfile_serialization=False)
    torch.save(content, tmp_path / "evil_zip.ckpt")
    for name in ("evil.ckpt", "evil_legacy.ckpt", "evil_zip.ckpt"):
        line = refused([tmp_path / name, tmp_path / "ours"], capfd)
        assert name in line and "call, which is no tensor" in line
        assert not victim.exists()
