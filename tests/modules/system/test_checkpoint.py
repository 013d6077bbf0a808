import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import modules.system.checkpoint as checkpoint
from modules.portrait.build import read_portrait_config
from modules.system.checkpoint import (
    CONFIG,
    build_network,
    find_checkpoint,
    list_checkpoints,
    load_module,
    load_state,
    load_trainer_state,
    read_config,
    save_checkpoint,
)
from modules.system.config import save_yaml
from modules.system.errors import UserError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def states_equal(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    module, other = network(), network()
    state = {"step": 3, "best": None, "optimizers": {"a": {"state": {0: {"m": torch.ones(2)}}, "groups": [0.1]}}}
    save_checkpoint(tmp_path / "a/b", {"task": "i2p", "model": {"width": 4}}, {"part": module}, state)
    load_module(tmp_path / "a/b", "part", other)
    assert states_equal(module, other)
    assert read_config(tmp_path / "a/b") == {"task": "i2p", "model": {"width": 4}}
    loaded = load_trainer_state(tmp_path / "a/b")
    assert loaded["step"] == 3 and torch.equal(loaded["optimizers"]["a"]["state"][0]["m"], torch.ones(2))
    assert sorted(os.listdir(tmp_path / "a/b")) == ["config.yaml", "part.safetensors", "trainer.pt"]
    assert os.listdir(tmp_path / "a") == ["b"]


def test_half_precision_halves_the_file_and_loads_into_float32(tmp_path: Path) -> None:
    module, other = nn.Linear(100, 100), nn.Linear(100, 100)
    save_checkpoint(tmp_path / "half", {}, {"part": module}, half=True)
    save_checkpoint(tmp_path / "whole", {}, {"part": module})
    sizes = [(tmp_path / name / "part.safetensors").stat().st_size for name in ("half", "whole")]
    load_module(tmp_path / "half", "part", other)
    assert sizes[0] < 0.51 * sizes[1] and other.weight.dtype == torch.float32
    torch.testing.assert_close(other.weight, module.weight, rtol=1e-3, atol=1e-4)


def test_weights_beyond_half_precision_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="part: weight holds values beyond 65504"):
        save_checkpoint(tmp_path / "half", {}, {"part": {"weight": torch.tensor([1e6])}}, half=True)
    assert os.listdir(tmp_path) == []


def test_shared_and_strided_weights_are_saved(tmp_path: Path) -> None:
    tied, strided = Tied(), {"w": torch.arange(6.0).reshape(2, 3).t()}
    save_checkpoint(tmp_path / "c", {}, {"tied": tied, "strided": strided})
    other = Tied()
    load_module(tmp_path / "c", "tied", other)
    assert states_equal(tied, other)
    assert torch.equal(load_state(tmp_path / "c", "strided")["w"], strided["w"])


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"a": 1}, {"old": nn.Linear(1, 1)})
    save_checkpoint(tmp_path / "c", {"a": 2}, {"new": nn.Linear(1, 1)})
    assert read_config(tmp_path / "c") == {"a": 2}
    assert sorted(os.listdir(tmp_path / "c")) == ["config.yaml", "new.safetensors"]
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("broken", ["save_file", "save_yaml", "_to_disk"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    module = network()
    save_checkpoint(tmp_path / "c", {"a": 1}, {"part": module})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, broken, fail)
    with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        save_checkpoint(tmp_path / "c", {"a": 2}, {"part": network()})
    if isinstance(error, OSError):
        assert "No space left on device" in str(caught.value) and str(tmp_path / "c") in str(caught.value)
    other = network()
    load_module(tmp_path / "c", "part", other)
    assert states_equal(module, other) and read_config(tmp_path / "c") == {"a": 1}
    assert os.listdir(tmp_path) == ["c"]


def test_a_full_device_is_reported(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(UserError, match="cannot write the checkpoint"):
            save_checkpoint(tmp_path / "c", {}, {}, {"moments": torch.zeros(100_000)})
        with pytest.raises(UserError, match="cannot write the checkpoint"):
            save_checkpoint(tmp_path / "c", {}, {"part": nn.Linear(300, 300)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


def test_a_crash_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best", {"a": 1}, {"part": nn.Linear(1, 1)})
    (tmp_path / "best").rename(tmp_path / ".best.old")
    (tmp_path / ".best.123.part").mkdir()
    assert read_config(tmp_path / "best") == {"a": 1}
    save_checkpoint(tmp_path / "best", {"a": 2}, {"part": nn.Linear(1, 1)})
    assert os.listdir(tmp_path) == ["best"]


def test_weights_that_do_not_fit_are_named_with_their_file(tmp_path: Path) -> None:
    stored = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1, bias=False), nn.PReLU())
    save_checkpoint(tmp_path / "c", {}, {"part": stored})
    with pytest.raises(UserError) as caught:
        load_module(tmp_path / "c", "part", nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1)))
    message = str(caught.value)
    assert str(tmp_path / "c/part.safetensors") in message and "\n" not in message
    assert "missing 1.bias" in message and "unknown 2.weight" in message
    assert "shape of 0.bias [5] instead of [4], 0.weight [5, 3] instead of [4, 3]" in message


def test_only_the_first_offending_keys_are_listed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {}, {"part": {f"k{i}": torch.zeros(1) for i in range(9)}})
    with pytest.raises(UserError, match=r"unknown k0, k1, k2 and 6 more;"):
        load_module(tmp_path / "c", "part", nn.Identity())


def test_a_module_is_untouched_when_its_weights_do_not_fit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {}, {"part": nn.Linear(3, 4, bias=False)})
    module = nn.Linear(3, 4)
    before = module.weight.detach().clone()
    with pytest.raises(UserError):
        load_module(tmp_path / "c", "part", module)
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff" * 100, None])
def test_damaged_weights_are_reported_with_their_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "part.safetensors"
    save_file({"weight": torch.zeros(50)}, path)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(UserError, match="part.safetensors is damaged or no safetensors file"):
        load_module(tmp_path, "part", nn.Linear(1, 1))


def test_a_trainer_state_cannot_execute_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"step": Trap()}, tmp_path / "trainer.pt")
    with pytest.raises(UserError, match="trainer.pt is damaged"):
        load_trainer_state(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_missing_files_are_reported_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no checkpoint: it has no config.yaml"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load_state(tmp_path / "nowhere", "part")
    save_checkpoint(tmp_path / "c", {}, {"part": nn.Linear(1, 1)})
    with pytest.raises(UserError, match="other.safetensors does not exist; the folder holds config.yaml, part.safe"):
        load_state(tmp_path / "c", "other")
    with pytest.raises(UserError, match="cannot be resumed"):
        load_trainer_state(tmp_path / "c")


def test_a_run_means_the_checkpoint_that_its_config_selects(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in"):
        find_checkpoint(tmp_path)
    for name in ("step_00000005", "step_00000040", "step_00000200"):
        save_checkpoint(tmp_path / "checkpoints" / name, {}, {"part": nn.Linear(1, 1)})
    (tmp_path / "checkpoints/step_00000900").mkdir()
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step_00000005", "step_00000040", "step_00000200"]
    assert find_checkpoint(tmp_path).name == "step_00000200"
    save_checkpoint(tmp_path / "checkpoints/best", {}, {"part": nn.Linear(1, 1)})
    assert find_checkpoint(tmp_path).name == "best"  # of an earlier version, which says nothing
    for selection, name in (("best", "best"), ("last", "step_00000200")):
        save_yaml(tmp_path / "config.yaml", {"checkpoint": {"select": selection}})
        assert find_checkpoint(tmp_path).name == name
    assert find_checkpoint(tmp_path / "checkpoints/step_00000040").name == "step_00000040"
    for folder in list_checkpoints(tmp_path):
        shutil.rmtree(folder)
    assert find_checkpoint(tmp_path).name == "best"  # the only one that is left


def test_a_folder_of_several_parts_means_the_first_that_it_has(tmp_path: Path) -> None:
    for name in ("portrait", "syncnet"):
        save_checkpoint(tmp_path / "demo" / name, {}, {"part": nn.Linear(1, 1)})
    assert find_checkpoint(tmp_path / "demo", ("syncnet", "portrait")).name == "syncnet"
    assert find_checkpoint(tmp_path / "demo", ("audio2motion", "portrait")).name == "portrait"
    assert find_checkpoint(tmp_path / "demo" / "portrait", ("portrait",)) == tmp_path / "demo" / "portrait"
    with pytest.raises(UserError, match="no checkpoint in .*demo;"):
        find_checkpoint(tmp_path / "demo", ("audio2motion",))


@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.nn.Conv1d(8, 1 << 48, 1),  # beyond all memory
        lambda: torch.nn.Conv1d(8, 10**30, 1),  # beyond 64 bits
        lambda: torch.nn.Conv1d(8, -4, 1),
    ],
)
def test_settings_of_no_network_are_refused_with_their_file(
    build: Callable[[], torch.nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        build_network(tmp_path, build)
    assert str(refused.value).startswith(f"{tmp_path / CONFIG} describes a network that cannot be built here")
    assert "\n" not in str(refused.value)


def test_a_model_of_unknown_version_is_refused_with_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, {"model": {"htbsr": {"fusion": ["v1"]}}}, {})
    with pytest.raises(UserError, match=r"config\.yaml: the group model is of no version known here"):
        read_portrait_config(folder)
