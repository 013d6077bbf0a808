"""A checkpoint is a folder, written whole or not at all: config.yaml, NAME.safetensors per module, trainer.pt.

config.yaml is the resolved config, NAME.safetensors the weights to use, trainer.pt what is needed to resume training
(optimisers, position); the latter is read with weights_only=True, so that no file can execute code.
"""

import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.system.config import from_dict, load_yaml, save_yaml
from modules.system.errors import UserError
from modules.system.files import whole_file

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)
CONFIG, TRAINER = "config.yaml", "trainer.pt"
_SHOWN = 3  # offending keys that an error names
LARGEST_HALF = 65504.0


def save_checkpoint(
    folder: Path | str,
    config: Mapping[str, Any],
    modules: Mapping[str, nn.Module | Mapping[str, Tensor]],
    trainer_state: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint beside `folder` and rename it; an older one of that name is replaced only when all is written.

    Args:
        folder: the folder to write; its parents are created.
        config: plain values, as `modules.system.config.to_dict` makes them.
        modules: name -> module or its state dict.
        trainer_state: tensors, numbers, strings, lists and dicts.
        half: store floating point weights in float16.
    Raises:
        UserError: it cannot be written (the older one is still there), or a weight does not fit in float16.
    """
    folder = Path(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".{folder.name}.*.part"):
            shutil.rmtree(leftover)
        part.mkdir()
        save_yaml(part / CONFIG, config)
        for name, module in modules.items():
            _write_weights(part / f"{name}.safetensors", _state(module, half, name))
        if trainer_state is not None:
            torch.save(dict(trainer_state), part / TRAINER)
        _to_disk(part)
        _swap(part, folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(
            f"cannot write the checkpoint {folder}: {_first_line(error)}; "
            "free some space or choose another folder (an older checkpoint there is untouched)"
        ) from error
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def load_module(folder: Path | str, name: str, module: nn.Module) -> None:
    """Fill `module` with the weights NAME.safetensors; every key must be there and fit.

    Raises:
        UserError: no such file, a damaged one, or keys that are missing, unknown or of another shape.
    """
    path = Path(folder) / f"{name}.safetensors"
    state = load_state(folder, name)
    problems = misfits(state, _state(module))
    if problems:
        raise UserError(
            f"{path} does not fit the model of this config: {problems}; "
            "use the config.yaml beside the file, or another file"
        )
    getattr(module, "_orig_mod", module).load_state_dict(state)


def misfits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What keeps `state` from filling a module whose state is `expected`, a few keys of each kind; empty: nothing."""
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    misshapen = [
        f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    return "; ".join(
        f"{title} {_few(sorted(keys))}"
        for title, keys in (("missing", missing), ("unknown", unknown), ("shape of", misshapen))
        if keys
    )


def load_state(folder: Path | str, name: str) -> dict[str, Tensor]:
    """The tensors of NAME.safetensors, on the CPU, as stored.

    Raises:
        UserError: no such file, or a damaged one.
    """
    folder = _settled(folder)
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"{path} does not exist; {_contents(folder)}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({_first_line(error)}); get it again") from error


def read_weights(path: Path, advice: str = "get it again") -> dict[str, Tensor]:
    """The tensors of a published file, by name, on the CPU; no file can execute code.

    Args:
        path: *.safetensors, or what torch.save wrote: {name: tensor}, or that as "state_dict" or "model_state_dict".
        advice: end of the messages.
    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # whatever the bytes of a damaged file lead the reader into
        reason = "damaged, incomplete, or not of tensors alone" if path.is_file() else "no such file"
        raise UserError(f"{path} cannot be read as weights ({reason}); {advice}") from error
    content = content if isinstance(content, Mapping) else {}
    content = next((content[key] for key in ("state_dict", "model_state_dict") if key in content), content)
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no tensors with names; {advice}")
    return dict(content)


def load_trainer_state(folder: Path | str, look_only: bool = False) -> dict[str, Any]:
    """What `save_checkpoint` got as trainer_state, on the CPU.

    Args:
        folder: the checkpoint.
        look_only: leave the tensors on the disk until they are asked for.
    Raises:
        UserError: no such file, or a damaged one.
    """
    path = _settled(folder) / TRAINER
    if not path.is_file():
        raise UserError(f"{path} does not exist; this checkpoint has weights only and cannot be resumed")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=look_only)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is damaged ({_first_line(error)}); delete {path.parent} to resume from an older checkpoint"
        ) from error


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.yaml of a checkpoint; `from_dict` on it or on one of its groups names the file in errors.

    Raises:
        UserError: the folder or the file is missing or unreadable.
    """
    path = _settled(folder) / CONFIG
    if not path.is_file():
        raise UserError(
            f"{path.parent} is no checkpoint: it has no {CONFIG}; give a folder with {CONFIG} and *.safetensors"
        )
    return load_yaml(path)


def read_model_config(
    folder: Path, kind: type[T], update: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
) -> T:
    """The network's settings in the config.yaml of a checkpoint.

    Args:
        folder: the checkpoint.
        kind: dataclass of the settings.
        update: brings the group `model` of older checkpoints up to date.
    Raises:
        UserError: no config.yaml, none of a network, or a wrong value; the message names the file.
    """
    config = read_config(folder)
    if not isinstance(config.get("model"), Mapping):
        raise UserError(f"{folder / CONFIG} has no group model; copy it from where you have the weights from")
    try:
        return from_dict(kind, update(config["model"]))
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:  # `update` met lists in place of words and the like
        raise UserError(f"{folder / CONFIG}: the group model is of no version known here ({error})") from error


def build_network(folder: Path, build: Callable[[], Network]) -> Network:
    """What `build` makes of the settings in the config.yaml of a checkpoint.

    Raises:
        UserError: they describe no network, or one that no memory holds; the message names the file.
    """
    try:
        return build()
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise UserError(
            f"{folder / CONFIG} describes a network that cannot be built here ({_first_line(error)}); "
            "copy it from where you have the weights from"
        ) from error


def checkpoint_step(folder: Path) -> int:
    """The step in the name of a folder step_NNNNNNNN, -1 if it has another name."""
    number = folder.name.removeprefix("step_")
    return int(number) if folder.name.startswith("step_") and number.isdigit() else -1


def find_checkpoint(path: Path | str, parts: tuple[str, ...] = ()) -> Path:
    """The checkpoint that `path` names: the folder itself, or that of a training run which its config selects.

    `checkpoint.select` of the run is `last` (the newest) or `best`. Where there is no such checkpoint, or the run is of
    an earlier version and does not say, the best comes first and then the newest.

    Args:
        path: a checkpoint, a run, or a folder such as checkpoints/demo, whose folders are the parts of a checkpoint.
        parts: names of such folders; the first that is there is meant.
    Raises:
        UserError: there is none, or the run's config.yaml cannot be read.
    """
    path = next((Path(path) / part for part in parts if (Path(path) / part).is_dir()), _settled(path))
    best = _settled(path / "checkpoints" / "best")
    newest = reversed(list_checkpoints(path))
    choice = (*newest, best) if _selects_last(path) else (best, *newest)
    for folder in (*choice, path):
        if (folder / CONFIG).is_file() and any(folder.glob("*.safetensors")):
            return folder
    raise UserError(f"no checkpoint in {path}; give a folder with {CONFIG} and *.safetensors, or a training run")


def _selects_last(run: Path) -> bool:
    settings = load_yaml(run / CONFIG).get("checkpoint") if (run / CONFIG).is_file() else None
    return isinstance(settings, Mapping) and settings.get("select") == "last"


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoints step_NNNNNNNN of a training run, oldest first."""
    folders = [folder for folder in (run / "checkpoints").glob("step_*") if (folder / CONFIG).is_file()]
    return sorted((folder for folder in folders if checkpoint_step(folder) >= 0), key=checkpoint_step)


def newest_whole(run: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint of a training run of which every file can be read, and what is wrong with each newer one.

    Files that were cut or lost are found, not single numbers that changed.
    """
    folders = [folder for folder in (run / "checkpoints").glob("step_*") if checkpoint_step(folder) >= 0]
    folders = sorted((folder for folder in folders if folder.is_dir()), key=checkpoint_step, reverse=True)
    names = {path.name for folder in folders for path in folder.glob("*.safetensors")}
    problems: dict[Path, str] = {}
    for folder in folders:
        try:
            _check_files(folder, names)
        except UserError as error:
            problems[folder] = str(error).partition(";")[0]
        else:
            return folder, problems
    return None, problems


def _check_files(folder: Path, names: set[str]) -> None:
    read_config(folder)
    for path in (folder / name for name in sorted(names)):
        if not path.is_file():
            raise UserError(f"{path} is missing")
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({_first_line(error)})") from error
    load_trainer_state(folder, look_only=True)


def _state(module: nn.Module | Mapping[str, Tensor], half: bool = False, name: str = "") -> dict[str, Tensor]:
    state = getattr(module, "_orig_mod", module).state_dict() if isinstance(module, nn.Module) else module
    result, storages = {}, set()
    for key, value in state.items():
        tensor = value.detach()
        if half and tensor.is_floating_point():
            if tensor.numel() and not float(tensor.abs().max()) <= LARGEST_HALF:
                raise UserError(f"{name}: {key} holds values beyond {LARGEST_HALF:g}; save it without half precision")
            tensor = tensor.half()
        storage = tensor.untyped_storage().data_ptr()
        result[key] = tensor.clone() if storage in storages else tensor  # safetensors refuses shared memory
        storages.add(storage)
    return result


def _write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    with whole_file(path) as part:
        save_file({key: tensor.cpu().contiguous() for key, tensor in state.items()}, part)


def _to_disk(folder: Path) -> None:
    """Ask the system to write everything now, so that a power cut after the rename leaves no empty files."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _swap(part: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _settled(folder: Path | str) -> Path:
    """The folder; if a crash came between the two renames of `_swap`, the old one is put back first."""
    folder = Path(folder)
    old = folder.with_name(f".{folder.name}.old") if folder.name else folder
    if not folder.exists() and old.is_dir():
        old.rename(folder)
    return folder


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return f"the folder holds {', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'}"


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")


def _first_line(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
