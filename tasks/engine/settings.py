"""A training YAML -> the task, the trainer's settings and the task's own settings."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from modules.system.config import UnknownKeyError, from_dict, load_yaml, nearest, to_dict
from modules.system.config_keys import Key, key_names, keys_of
from modules.system.errors import UserError
from tasks.engine.registry import BUILT_IN, find_task
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig

# Keys of older config.yaml files, and what they are called now.
RENAMED = {
    "rates": "learning_rates",
    "learning_rate": "learning_rates.generator",
    "warmup": "learning_rates.warmup",
    "decay": "learning_rates.schedule",
    "stop_i2p": "freeze_image_to_plane_at",
    "source_every": "self_reenactment_every",
    "data.held_out": "data.split.validation (a share of the people)",
    "data.validation_every": "data.split.validation (a share of the people)",
}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings in a YAML.

    Attributes:
        task: the class, and `task_config` an instance of its config class.
        trainer: what all runs share.
        resolved: all values as plain data, defaults included; saved with the run.
    """

    task: type[Task]
    trainer: TrainerConfig
    task_config: Any
    resolved: dict[str, Any]


def read_settings(path: Path | str, overrides: list[str] | None = None) -> RunSettings:
    """Read a YAML of a run: `task:`, the trainer's keys and the task's keys, side by side.

    Raises:
        UserError: a wrong key or value, with the file.
    """
    values = load_yaml(path, overrides or [])
    name = values.get("task")
    if not isinstance(name, str):
        raise UserError(f"{path} is no training config: it names no task; add a line such as `task: i2p`")
    task = find_task(name)
    shared = {field.name for field in fields(TrainerConfig)}
    own = {field.name for field in fields(task.config_class)}
    for key in values:
        if key not in shared | own | {"task"}:
            hint = where_else(key, task) or nearest(key, shared | own)
            hint = f"; it is called {RENAMED[key]} now" if key in RENAMED else hint
            raise UserError(f"{values.sources[key]}: unknown key {key}{hint}")
    for key in RENAMED.keys() & values.sources.keys():
        if "." in key:
            raise UserError(f"{values.sources[key]}: unknown key {key}; it is called {RENAMED[key]} now")
    try:
        trainer = from_dict(TrainerConfig, values.part(shared))
        config: Any = from_dict(task.config_class, values.part(own))
    except UnknownKeyError as error:
        elsewhere = where_else(error.key, task)
        raise UserError(str(error).partition(";")[0] + elsewhere if elsewhere else str(error)) from error
    return RunSettings(
        task=task, trainer=trainer, task_config=config, resolved={"task": name, **to_dict(trainer), **to_dict(config)}
    )


def where_else(key: str, task: type[Task]) -> str:
    """Where a key stands that this task has not: under another name in its own config, or in other tasks; or nothing.

    Args:
        key: dotted.
    """
    word = key.rpartition(".")[2]
    own = [name for name in key_names(task.config_class) if name.rpartition(".")[2] == word]
    others = [
        name
        for name in BUILT_IN
        if "patches" not in name and name != task.name and key in key_names(find_task(name).config_class)
    ]
    ways = ([f"here it is {' or '.join(own)}"] if own else []) + (
        [f"it is a key of the task{'s' if len(others) > 1 else ''} {', '.join(others)}"] if others else []
    )
    return f"; {', and '.join(ways)}" if ways else ""


def keys_in_words(settings: RunSettings) -> list[Key]:
    """Every key of a run's YAML, with the weight of each loss that the task knows."""
    keys = [*keys_of(settings.trainer), *keys_of(settings.task_config)]
    losses = {f"loss.{name}": term.meaning for name, term in settings.task.terms.items()}
    losses |= {f"loss.{name}": meaning for name, meaning in settings.task.other_losses.items()}
    weights = getattr(settings.task_config, "loss", None)
    if not isinstance(weights, dict):
        return keys
    names = [*losses, *(f"loss.{name}" for name in weights if f"loss.{name}" not in losses)]
    listed = [Key(name, "float", weights.get(name[5:], 0.0), losses.get(name, "")) for name in names]
    return [item for key in keys for item in (listed if key.name == "loss" else [key])]
