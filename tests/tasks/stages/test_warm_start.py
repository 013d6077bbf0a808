from pathlib import Path

import pytest
import torch
from torch import nn

from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.engine.settings import read_settings
from tasks.stages.warm_start import check_face_model, check_speech, holds, warm_start, warm_start_if_present
from tests.conftest import ROOT
from tests.tasks.tiny_speech import sync_task
from tests.tiny import tiny_portrait_config


def layers(value: float) -> dict[str, nn.Module]:
    parts = {name: nn.Linear(2, 2) for name in ("head", "torso")}
    for part in parts.values():
        nn.init.constant_(part.weight, value)
    return parts


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    save_checkpoint(tmp_path / "run", {"task": "i2p"}, {"head": layers(3.0)["head"]})
    return str(tmp_path / "run")


def filled(parts: dict[str, nn.Module]) -> set[str]:
    return {name for name, part in parts.items() if torch.equal(part.weight, torch.full((2, 2), 3.0))}


def test_named_parts_are_loaded_and_names_that_the_task_lacks_are_left_out(checkpoint: str) -> None:
    parts = layers(0.0)
    warm_start(checkpoint, parts, ("head", "discriminator"))
    assert filled(parts) == {"head"}
    assert warm_start(checkpoint, parts, ()) == ()
    with pytest.raises(UserError, match="has no weights of torso"):
        warm_start(checkpoint, parts, ("torso",))


def test_what_is_missing_starts_fresh_with_a_note(checkpoint: str, capsys) -> None:
    parts = layers(0.0)
    assert warm_start(checkpoint, parts, ("head", "torso")) == ("head",) and filled(parts) == {"head"}
    assert capsys.readouterr().err == f"note: {checkpoint} has no torso: it starts fresh\n"


def test_the_last_of_several_comes_first_and_a_folder_for_videos_is_taken_apart(checkpoint: str, tmp_path: Path):
    save_checkpoint(tmp_path / "demo" / "portrait", {"model": {}}, layers(5.0))
    parts = layers(0.0)
    assert warm_start(f"{tmp_path / 'demo'}, {checkpoint}", parts, ("head", "torso")) == ("head", "torso")
    assert filled(parts) == {"head"} and float(parts["torso"].weight[0, 0]) == 5.0


def test_a_super_resolution_comes_out_of_htbsr(tmp_path: Path) -> None:
    blocks = nn.ModuleDict({"block0": nn.Linear(2, 2), "block1": nn.Linear(2, 2)})
    whole = {**{f"{key}": value + 1 for key, value in blocks.state_dict().items()}, "torso.weight": torch.zeros(3)}
    save_checkpoint(tmp_path / "c", {"model": {}}, {"htbsr": whole})
    before = blocks["block0"].weight.detach().clone()
    assert warm_start(str(tmp_path / "c"), {"superresolution": blocks}, ("superresolution",)) == ("superresolution",)
    assert torch.equal(blocks["block0"].weight, before + 1)


def test_speech_of_another_face_model_or_of_other_features_is_refused(tmp_path: Path) -> None:
    config = {"face_model": "procedural", "features": "whisper"}
    save_checkpoint(tmp_path / "demo" / "audio2motion", config, {"audio2motion": layers(1.0)["head"]})
    check_speech(str(tmp_path / "demo"), "whisper", "procedural")
    with pytest.raises(UserError, match="expressions of the procedural face model, this config has ict"):
        check_speech(str(tmp_path / "demo"), "whisper", "ict")
    with pytest.raises(UserError, match="hears whisper, this config mel"):
        check_speech(str(tmp_path / "demo"), "mel", "procedural")


def test_the_embedded_checkpoint_is_a_start_of_every_stage(capsys) -> None:
    """Its weights fit the demo's configs: all of the portrait's parts, the speech and its judge are filled from it."""
    for name in ("i2p", "motion_adapter", "htbsr", "syncnet", "a2m"):
        path = ROOT / "configs" / "demo" / f"{name}.yaml"
        settings = read_settings(path, ["init_from=checkpoints/demo", f"init_from={ROOT / 'checkpoints' / 'demo'}"])
        task = settings.task(settings.task_config, torch.Generator().manual_seed(0))
        before = {key: value.clone() for key, value in next(iter(task.modules.values())).state_dict().items()}
        task.begin()
        after = next(iter(task.modules.values())).state_dict()
        assert any(not torch.equal(before[key], after[key]) for key in before), name
    assert "starts fresh" not in capsys.readouterr().err


def test_a_judge_that_the_checkpoint_lacks_starts_fresh_and_its_speech_is_still_checked(tmp_path: Path, face, capsys):
    theirs = {"face_model": "procedural", "features": "mel"}
    save_checkpoint(tmp_path / "own" / "audio2motion", theirs, {"audio2motion": layers(1.0)["head"]})
    sync_task(init_from=str(tmp_path / "own")).begin()
    assert capsys.readouterr().err == f"note: {tmp_path / 'own'} has no syncnet: it starts fresh\n"
    theirs["features"] = "whisper"
    save_checkpoint(tmp_path / "own" / "audio2motion", theirs, {"audio2motion": nn.Linear(1, 1)})
    with pytest.raises(UserError, match="hears whisper, this config mel"):
        sync_task(init_from=str(tmp_path / "own")).begin()


def test_only_what_the_checkpoint_has_is_loaded_when_it_is_optional(checkpoint: str) -> None:
    parts = layers(0.0)
    assert warm_start_if_present(checkpoint, parts, ("torso", "head")) == ("head",)
    assert filled(parts) == {"head"}


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint in"):
        warm_start_if_present(str(tmp_path), layers(0.0), ("head",))


def test_what_a_checkpoint_holds_is_known_without_loading_it(checkpoint: str, tmp_path: Path) -> None:
    assert holds(checkpoint, "head") and not holds(checkpoint, "torso")
    assert not holds(str(tmp_path / "nowhere"), "head")


def test_a_checkpoint_of_another_face_model_is_refused(checkpoint: str, tmp_path: Path) -> None:
    ours = tiny_portrait_config(2, driving=DrivingConfig(face_model="ict"))
    check_face_model(checkpoint, ours)  # it has no motion adapter
    for name in ("ict", "bfm"):
        theirs = tiny_portrait_config(2, driving=DrivingConfig(face_model=name))
        save_checkpoint(tmp_path / name, {"model": to_dict(theirs)}, {"motion_adapter": layers(3.0)["head"]})
    check_face_model(str(tmp_path / "ict"), ours)
    with pytest.raises(UserError, match="trained with the bfm face model, this config has ict; set model.driving.face"):
        check_face_model(str(tmp_path / "bfm"), ours)
