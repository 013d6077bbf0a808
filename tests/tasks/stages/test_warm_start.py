from pathlib import Path

import pytest
import torch
from torch import nn

from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.stages.warm_start import check_face_model, holds, warm_start, warm_start_if_present
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
    warm_start(checkpoint, parts, ())
    with pytest.raises(UserError, match="torso.safetensors does not exist"):
        warm_start(checkpoint, parts, ("torso",))


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
    check_face_model(checkpoint, ours)  # its config.yaml says nothing
    for name in ("ict", "bfm"):
        theirs = tiny_portrait_config(2, driving=DrivingConfig(face_model=name))
        save_checkpoint(tmp_path / name, {"model": to_dict(theirs)}, {"head": layers(3.0)["head"]})
    check_face_model(str(tmp_path / "ict"), ours)
    with pytest.raises(UserError, match="trained with the bfm face model, this config has ict; set model.driving.face"):
        check_face_model(str(tmp_path / "bfm"), ours)
