"""Warm start: load modules from the checkpoint of an earlier stage or run."""

from collections.abc import Mapping

from torch import nn

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.old_configs import update_model_config
from modules.system.checkpoint import find_checkpoint, load_module, read_config, read_model_config
from modules.system.errors import UserError


def warm_start(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> None:
    """Load those of `names` that are among `modules` from a checkpoint or a run.

    Raises:
        UserError: there is no checkpoint, or its weights do not fit.
    """
    folder = find_checkpoint(path)
    for name in names:
        if name in modules:
            load_module(folder, name, modules[name])


def holds(path: str, name: str) -> bool:
    """Whether there is a checkpoint or run `path` and it has weights of the module `name`."""
    try:
        return (find_checkpoint(path) / f"{name}.safetensors").is_file()
    except UserError:
        return False


def check_face_model(path: str, model: Real3DPortraitConfig) -> None:
    """Refuse a checkpoint or run whose motion adapter knows another face model's PNCCs.

    Raises:
        UserError: it does; or there is no checkpoint.
    """
    folder = find_checkpoint(path)
    if "model" not in read_config(folder):
        return  # it says nothing
    theirs = read_model_config(folder, Real3DPortraitConfig, update_model_config).driving.face_model
    if theirs != model.driving.face_model:
        raise UserError(
            f"{folder} was trained with the {theirs} face model, this config has {model.driving.face_model}; "
            f"set model.driving.face_model={theirs}, with clips that were fitted with it"
        )


def warm_start_if_present(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> tuple[str, ...]:
    """Warm-start those of `names` that the checkpoint or run has; returns them."""
    present = tuple(name for name in names if (find_checkpoint(path) / f"{name}.safetensors").is_file())
    warm_start(path, modules, present)
    return present
