"""Warm start: load modules from the checkpoint of an earlier stage or run."""

from collections.abc import Mapping

from torch import nn

from modules.system.checkpoint import find_checkpoint, load_module


def warm_start(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> None:
    """Load those of `names` that are among `modules` from a checkpoint or a run.

    Raises:
        UserError: there is no checkpoint, or its weights do not fit.
    """
    folder = find_checkpoint(path)
    for name in names:
        if name in modules:
            load_module(folder, name, modules[name])


def warm_start_if_present(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> tuple[str, ...]:
    """Warm-start those of `names` that the checkpoint or run has; returns them."""
    present = tuple(name for name in names if (find_checkpoint(path) / f"{name}.safetensors").is_file())
    warm_start(path, modules, present)
    return present
