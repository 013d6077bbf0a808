"""A training YAML -> the task, the trainer's settings and the task's own settings."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from modules.system.config import from_dict, load_yaml, nearest, to_dict
from modules.system.errors import UserError
from tasks.engine.registry import find_task
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
            hint = f"; it is called {RENAMED[key]} now" if key in RENAMED else nearest(key, shared | own)
            raise UserError(f"{values.sources[key]}: unknown key {key}{hint}")
    trainer = from_dict(TrainerConfig, values.part(shared))
    config: Any = from_dict(task.config_class, values.part(own))
    return RunSettings(
        task=task, trainer=trainer, task_config=config, resolved={"task": name, **to_dict(trainer), **to_dict(config)}
    )
