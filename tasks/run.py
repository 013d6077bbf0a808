"""Train a config; the same command again resumes a stopped run.

python -m tasks.run configs/i2p.yaml [key=value ...] [--output runs/i2p] [--device cuda] [--fresh]
torchrun --nproc-per-node 8 -m tasks.run configs/i2p.yaml
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from lightning.fabric import Fabric

from modules.system.assets import require_assets
from modules.system.checkpoint import newest_whole, read_config
from modules.system.config import changed_keys, save_yaml
from modules.system.config_keys import table_of_keys
from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs
from modules.system.interrupts import Stopped
from tasks.engine.devices import launch_fabric
from tasks.engine.run_log import writing
from tasks.engine.seeds import derived_seed
from tasks.engine.settings import RunSettings, keys_in_words, read_settings
from tasks.engine.trainer import Trainer


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; None means the arguments of this process."""
    parser = argparse.ArgumentParser(prog="python -m tasks.run", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a YAML of configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: steps=1000 loss.l1=0.5")
    parser.add_argument("--output", type=Path, help="folder of the run; default runs/ and the name of the config")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--keys", action="store_true", help="list every key with type, value and meaning, train nothing"
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="resume from the last checkpoint, which must exist")
    begin.add_argument("--fresh", action="store_true", help="start anew; an older run of that folder is moved aside")
    return parser.parse_intermixed_args(arguments)


def show_keys(options: argparse.Namespace) -> None:
    """Print every key of the config: name, value, type and meaning; and what the losses of its stage may read."""
    settings = read_settings(options.config, options.overrides)
    print(table_of_keys(keys_in_words(settings)))
    if inputs := settings.task.term_inputs:
        print("\nInputs of a loss of this stage, S pixels a side of a picture (docs/extending.md#a-loss):")
        print("\n".join(f"{name:<18}  {what}" for name, what in inputs.items()))


def default_output(config: Path) -> Path:
    """runs/demo/i2p for .../configs/demo/i2p.yaml; runs/NAME for a file elsewhere."""
    parts = config.resolve().with_suffix("").parts
    if "configs" in parts:
        return Path("runs", *parts[len(parts) - parts[::-1].index("configs") :])
    return Path("runs", parts[-1])


def start_of(folder: Path, settings: RunSettings, resume: bool, fresh: bool) -> tuple[Path | None, dict[Path, str]]:
    """The checkpoint to resume from, or None to start from the first step; and newer ones that are damaged, with why.

    Raises:
        UserError: these settings cannot resume the run in the folder, or `resume` is set and there is no run.
    """
    newest, damaged = (None, {}) if fresh else newest_whole(folder)
    if newest is None:
        if damaged:
            others = "; no older one is whole" if len(damaged) > 1 else ""
            raise UserError(
                f"{next(iter(damaged.values()))}{others}; start anew with --fresh, which moves {folder} aside"
            )
        if resume:
            raise UserError(f"nothing to resume: {folder} has no checkpoint; leave --resume out to start")
        return None, {}
    old, new = read_config(folder if (folder / "config.yaml").is_file() else newest), settings.resolved
    advice = f"choose another --output, or --fresh to move {folder} aside"
    if old.get("task") != new["task"]:
        raise UserError(f"{newest} is a checkpoint of the task {old.get('task')}, not of {new['task']}; {advice}")
    changed = changed_keys(old, new)
    shapes = [key for key in changed if key.partition(".")[0] in settings.task.model_keys]
    if shapes:
        raise UserError(f"{newest} has another model: {', '.join(shapes[:3])} changed; {advice}")
    return newest, damaged


def set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it does not count among those to keep."""
    aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    return checkpoint.rename(aside)


def move_aside(folder: Path) -> None:
    """Rename an existing run to NAME.old, NAME.old2, ..."""
    if folder.exists():
        names = (folder.with_name(f"{folder.name}.old{number or ''}") for number in (0, *range(2, 10000)))
        folder.rename(next(name for name in names if not name.exists()))


def train(options: argparse.Namespace) -> Trainer:
    """Build the task of the config and train it to the end."""
    settings = read_settings(options.config, options.overrides)
    folder = options.output or default_output(options.config)
    if not (folder / "checkpoints").exists():  # in a run that has begun, config.yaml is our own
        keep_inputs({"--output": folder / "config.yaml"}, {"the config": options.config})
    fabric = launch_fabric(settings.trainer, options.device)
    resume, damaged = start_of(folder, settings, options.resume, options.fresh)
    fabric.barrier()
    notes: list[str] = []
    if fabric.global_rank == 0:
        with writing(folder):
            if options.fresh:
                move_aside(folder)
            folder.mkdir(parents=True, exist_ok=True)
            notes = [
                f"{reason}; going back to {resume}, the damaged one is kept as {set_aside(c)}"
                for c, reason in damaged.items()
            ]
    try:
        trainer = build_trainer(settings, folder, fabric, resume)
        for note in [*notes, *settings.task.notes(settings.task_config)]:
            trainer.log.line(f"note: {note}")
        if resume:
            announce(trainer, read_config(resume), settings)
        if fabric.global_rank == 0:
            with writing(folder):
                save_yaml(folder / "config.yaml", settings.resolved)
        received = trainer.train()
    except torch.OutOfMemoryError as error:
        raise UserError("the device has too little memory; lower loader.batch and raise accumulate") from error
    if received:
        raise Stopped(received)
    return trainer


def build_trainer(settings: RunSettings, folder: Path, fabric: Fabric, resume: Path | None = None) -> Trainer:
    """The task, with the initial weights of the config's seed, and its trainer."""
    require_assets(settings.task.files(settings.task_config, fresh=resume is None))
    seed = derived_seed(settings.trainer.seed, 0)
    torch.manual_seed(seed)  # for layers that initialise themselves
    task = settings.task(settings.task_config, torch.Generator().manual_seed(seed))
    return Trainer(task, settings.trainer, folder, settings.resolved, fabric, resume)


def announce(trainer: Trainer, old: dict, settings: RunSettings) -> None:
    """Log the step from which the run resumes, and the keys that have changed since."""
    changed = changed_keys(old, settings.resolved)
    trainer.log.line(f"resuming from step {trainer.step}" + (f"; changed: {', '.join(changed)}" if changed else ""))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 128 + N after signal N (Ctrl-C 130, SIGTERM 143)."""
    options = parse(arguments)
    return run_command(lambda: show_keys(options) if options.keys else train(options))


if __name__ == "__main__":
    sys.exit(main())
