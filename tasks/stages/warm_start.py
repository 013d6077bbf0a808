"""Warm start: load modules from checkpoints of earlier stages or runs, or from one that videos are made with.

`init_from` is a checkpoint, a run, or a folder with portrait/, audio2motion/ and syncnet/ such as checkpoints/demo.
Several, with commas between them, are asked from the last to the first, module by module.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.old_configs import update_model_config
from modules.system.checkpoint import find_checkpoint, load_module, load_state, read_config, read_model_config
from modules.system.errors import UserError, note

PORTRAIT_PART, SPEECH_PART, SYNC_PART = "portrait", "audio2motion", "syncnet"  # folders of such a folder
Parts = tuple[str, ...]
FORMER_DECODER, BLOCKS = "htbsr", ("block0", "block1")  # where HTB-SR has a super-resolution of its own


def sources(path: str, parts: Parts = (PORTRAIT_PART,)) -> list[Path]:
    """The checkpoints that `init_from` names, the first to be asked first.

    Args:
        parts: as of `find_checkpoint`.
    Raises:
        UserError: there is no such checkpoint.
    """
    folders = [Path(part.strip()) for part in path.split(",")]
    return [find_checkpoint(folder, parts) for folder in reversed(folders)]


def source_of(path: str, name: str, parts: Parts = (PORTRAIT_PART,)) -> Path | None:
    """The checkpoint that has weights of the module `name`; None if none has.

    Raises:
        UserError: there is no such checkpoint.
    """
    return next((folder for folder in sources(path, parts) if (folder / f"{name}.safetensors").is_file()), None)


def warm_start(
    path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...], parts: Parts = (PORTRAIT_PART,)
) -> tuple[str, ...]:
    """Load those of `names` that are among `modules`; returns those that were there, and notes which start fresh.

    A super-resolution that is missing comes out of HTB-SR, which holds one.

    Raises:
        UserError: there is no checkpoint, none of the modules is there, or weights do not fit.
    """
    wanted = [name for name in names if name in modules]
    started = []
    for name in wanted:
        if folder := source_of(path, name, parts):
            load_module(folder, name, modules[name])
            started.append(name)
        elif name == "superresolution" and (folder := source_of(path, FORMER_DECODER)):
            modules[name].load_state_dict(superresolution_of(load_state(folder, FORMER_DECODER)))
            started.append(name)
    if wanted and not started:
        raise UserError(f"init_from is {path}, which has no weights of {', '.join(wanted)}")
    fresh = [name for name in wanted if name not in started]
    if fresh:
        note(f"{path} has no {', '.join(fresh)}: {'it starts' if len(fresh) == 1 else 'they start'} fresh")
    return tuple(started)


def warm_start_if_present(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> tuple[str, ...]:
    """Warm-start those of `names` that the checkpoint or run has; returns them."""
    present = tuple(name for name in names if name in modules and source_of(path, name))
    return warm_start(path, modules, present) if present else ()


def superresolution_of(htbsr: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain super-resolution that the weights of HTB-SR hold."""
    return {key: value for key, value in htbsr.items() if key.partition(".")[0] in BLOCKS}


def holds(path: str, name: str) -> bool:
    """Whether there is a checkpoint or run `path` and it has weights of the module `name`."""
    try:
        return source_of(path, name) is not None
    except UserError:
        return False


def check_face_model(path: str, model: Real3DPortraitConfig) -> None:
    """Refuse a checkpoint or run whose motion adapter knows another face model's PNCCs.

    Raises:
        UserError: it does; or there is no checkpoint.
    """
    folder = source_of(path, "motion_adapter")
    if folder is None or "model" not in read_config(folder):
        return  # it says nothing
    theirs = read_model_config(folder, Real3DPortraitConfig, update_model_config).driving.face_model
    if theirs != model.driving.face_model:
        raise UserError(
            f"{folder} was trained with the {theirs} face model, this config has {model.driving.face_model}; "
            f"set model.driving.face_model={theirs}, with clips that were fitted with it"
        )


def check_speech(path: str, features: str, face_model: str, parts: Parts = (SPEECH_PART,)) -> None:
    """Refuse a checkpoint or run of speech whose expressions or features are others.

    Raises:
        UserError: they are; or there is no checkpoint.
    """
    for folder in sources(path, parts):
        config = read_config(folder)
        theirs = config.get("face_model")
        if theirs is not None and theirs != face_model:
            raise UserError(
                f"{folder} speaks with expressions of the {theirs} face model, this config has {face_model}, whose "
                f"modes mean other things; prepare the clips with face_model={theirs}, or leave init_from out"
            )
        if config.get("features") not in (None, features):
            raise UserError(f"{folder} hears {config['features']}, this config {features}; set features to the former")
