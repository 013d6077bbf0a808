"""Name -> task: one dict, one decorator."""

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module

from modules.system.config import nearest
from modules.system.errors import UserError
from tasks.engine.task import Task
from tasks.engine.trainer_config import TrainerConfig

TASKS: dict[str, type[Task]] = {}
BUILT_IN = {
    **{name: f"tasks.stages.{name}" for name in ("i2p", "motion_adapter", "htbsr", "syncnet", "a2m")},
    **{name: f"tasks.demo.{name}" for name in ("i2p_patches", "motion_adapter_patches")},
}


def register(name: str) -> Callable[[type[Task]], type[Task]]:
    """Class decorator that makes a task known under `name`, the `task:` of a YAML."""

    def add(task: type[Task]) -> type[Task]:
        shared = {field.name for field in fields(task.config_class)} & {field.name for field in fields(TrainerConfig)}
        if shared:
            raise ValueError(f"task {name}: the keys {', '.join(sorted(shared))} belong to the trainer")
        task.name = name
        TASKS[name] = task
        return task

    return add


def find_task(name: str) -> type[Task]:
    """The task called `name`: a built-in one, or `package.module` of your own that registers the name `module`.

    Raises:
        UserError: there is none.
    """
    short = name.rpartition(".")[2]
    module = BUILT_IN.get(name) or (name if "." in name else None)
    if short not in TASKS and module:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise UserError(f"task: {name} cannot be imported: {error}") from error
    if short not in TASKS:
        raise UserError(f"unknown task: {name}{nearest(name, {*BUILT_IN, *TASKS})}")
    return TASKS[short]
