import pickle
import subprocess

import pytest
import torch

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.checkpoint import load_module, read_config
from modules.config import from_dict
from modules.convert import to_official
from scripts.convert_checkpoint import main


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A folder as the original's training leaves it: two steps of an audio-to-motion model in a legacy file."""
    folder = tmp_path_factory.mktemp("audio2secc vae")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = to_official(Audio2Motion(Audio2MotionConfig.full()).state_dict(), "audio2motion")
    content = {"epoch": 1, "global_step": 20, "checkpoint_callback_best": 1.0, "optimizer_states": [],
               "state_dict": {"model": state}}
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
    assert main(["--back", str(folder), str(tmp_path / "back.ckpt")]) == 0
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]["model"]
    wanted = torch.load(official / "model_ckpt_steps_20.ckpt", weights_only=True)["state_dict"]["model"]
    assert back.keys() == wanted.keys() and all(torch.equal(back[key], wanted[key]) for key in wanted)


def test_a_missing_tensor_is_named(official, tmp_path, capfd):
    content = torch.load(official / "model_ckpt_steps_20.ckpt", weights_only=True)
    del content["state_dict"]["model"]["vae.decoder.out_proj.bias"]
    torch.save(content, tmp_path / "cut.ckpt")
    assert "vae.decoder.out_proj.bias" in refused([tmp_path / "cut.ckpt", tmp_path / "ours"], capfd)
    assert not (tmp_path / "ours").exists()


def test_another_network_is_told_apart(official, tmp_path, capfd):
    assert "audio" in refused(["--as", "portrait", official, tmp_path / "ours"], capfd)


def test_damaged_foreign_and_missing_files_are_refused(official, tmp_path, capfd):
    whole = (official / "model_ckpt_steps_20.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("hello", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name in ("half.ckpt", "text.ckpt", "list.ckpt", "absent"):
        assert name in refused([tmp_path / name, tmp_path / "ours"], capfd)


class _Attack:
    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __reduce__(self):
        return subprocess.call, (["touch", self.victim],)


def test_code_in_a_file_is_not_executed(tmp_path, capfd):
    victim = tmp_path / "executed"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": _Attack(str(victim))}, protocol=2))
    assert "evil.ckpt" in refused([tmp_path / "evil.ckpt", tmp_path / "ours"], capfd)
    assert not victim.exists()
