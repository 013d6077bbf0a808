"""Train a folder of ablations, each beside its baseline, and write the table of the differences.

    python -m tasks.ablate configs/ablations --demo [--only no_laplacian concat_fusion] [--minutes 5]
    python -m tasks.ablate configs/ablations --evaluate videos=my_clips

An ablation is a YAML of a few lines on top of a training config, its `base`, which is also its baseline. With --demo
the config of the same name in the folder's own demo/ replaces the base, under the same changes. The run that another
one starts from (`init_from`, `sync_checkpoint`) is trained before it if it is the run folder of an ablation or of a
demo config of the set. All runs have the seed of their config and the same budget. With --evaluate each of them is
measured as `tasks.evaluate` measures it. Stop the command at any time and run it again: finished runs are kept, and a
stopped run resumes.
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modules.clips.format import list_clips
from modules.clips.splits import own_people
from modules.clips.store import is_address
from modules.procedural.person import HELD_OUT_SEED
from modules.system.checkpoint import find_checkpoint, read_config
from modules.system.config import Settings, changed_keys, load_yaml, nearest
from modules.system.config_keys import key_names
from modules.system.errors import UserError, run_command
from modules.system.files import whole_file
from tasks.ablation_evaluation import AblationEvaluation, with_figures
from tasks.ablation_table import as_markdown, mean_of_seeds, rows_of
from tasks.data.procedural_views import people_to_render
from tasks.engine.run_log import writing
from tasks.engine.settings import RunSettings, read_settings
from tasks.engine.trainer import Trainer
from tasks.evaluate import show
from tasks.run import default_output, parse, train
from tasks.stages.warm_start import PORTRAIT_PART, SPEECH_PART, SYNC_PART

STARTS = ("init_from", "sync_checkpoint")  # keys that name an earlier run
RESULT = "result.json"  # in the folder of a run that is finished
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a set.

    Attributes:
        config: the YAML of the baseline, and `overrides` (key=value) all that is changed in it.
        changed: those of the overrides that make the ablation; none for a baseline.
        baseline: name of the run to compare with; empty for a baseline.
        starts: names of the runs that it starts from.
    """

    name: str
    config: Path
    folder: Path
    settings: RunSettings
    overrides: tuple[str, ...]
    changed: tuple[str, ...] = ()
    baseline: str = ""
    starts: tuple[str, ...] = ()

    @property
    def model(self) -> object:
        """The settings of its model, None for a task that has none."""
        return getattr(self.settings.task_config, "model", None)

    @property
    def others(self) -> list[str]:
        """Keys by which the settings of the run in the folder differ from these."""
        if not (self.folder / "config.yaml").is_file():
            return []
        return changed_keys(read_config(self.folder), self.settings.resolved)

    @property
    def result(self) -> Result | None:
        """The stored result (see `result_of`) if the run is finished with these settings, else None."""
        path = self.folder / RESULT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not self.others else None


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; None means the arguments of this process."""
    parser = argparse.ArgumentParser(prog="python -m tasks.ablate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FOLDER key=value",
        help="folder of ablations (default: configs/ablations), and settings of all runs whose stage has the key",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with other seeds: mean and spread")
    parser.add_argument("--demo", action="store_true", help="use the small configs, on procedural people")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these ablations (default: all)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="budget of each run (default: as its config says)")
    budget.add_argument("--steps", type=int, help="the same in steps, which are equal on a busy machine too")
    parser.add_argument("--output", type=Path, help="folder of runs and table (default: where tasks.run puts them)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--evaluate",
        nargs="*",
        metavar="key=value",
        help="also measure what the runs make (docs/evaluation.md): videos=my_clips, and other settings of an "
        "evaluation; without videos, under --demo, clips of procedural people",
    )
    options = parser.parse_intermixed_args(arguments)
    folders = [Path(text) for text in options.inputs if "=" not in text]
    options.overrides = [text for text in options.inputs if "=" in text]
    options.folder = folders[0] if folders else Path("configs/ablations")
    if len(folders) > 1:
        parser.error(f"one folder of ablations, not {len(folders)}")
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; give at least 1")
    return options


# ---- which runs


def own_changes(path: Path, values: Settings) -> tuple[str, ...]:
    """The settings, as key=value, that come from `path` and the files beside it and not from their base."""
    return tuple(
        f"{key}={json.dumps(value) if isinstance(value, str) else values.texts.get(key, json.dumps(value))}"
        for key, value in _leaves(values)
        if Path(values.sources[key]).resolve().parent == path.resolve().parent
    )


def base_of(path: Path, values: Settings, demo: bool) -> Path:
    """The config of an ablation's baseline: the file that names the task, or with `demo` the small config of that name.

    Raises:
        UserError: the ablation has no such config.
    """
    base = Path(os.path.normpath(values.sources.get("task", str(path))))
    if base.resolve().parent == path.resolve().parent:
        raise UserError(
            f"{path} is no ablation: it has no training config as base; add a line such as base: ../motion_adapter.yaml"
        )
    if not demo:
        return base
    candidates = [folder / "demo" / base.name for folder in (path.parent, base.parent)]
    small = next((candidate for candidate in candidates if candidate.is_file()), None)
    if small is None:
        raise UserError(
            f"{path} has no demo: there is no {candidates[0]}; write it, or, if "
            f"{base.name} is a small one already, leave --demo out"
        )
    return small


def read_set(options: argparse.Namespace) -> dict[str, Run]:
    """All runs of a folder of ablations and their baselines, by name.

    Raises:
        UserError: the folder has no ablations, or a key or a value is wrong.
    """
    folder, demo = options.folder, options.demo
    ablations = sorted(folder.glob("*.yaml"))
    if not ablations:
        raise UserError(f"no ablations in {folder}; give a folder of YAML files such as configs/ablations")
    small = sorted(folder.glob("demo/*.yaml")) if demo else []
    known = {default_output(path): path for path in [*ablations, *small]}
    used: set[str] = set()
    budget = budget_of(options)
    runs: dict[str, Run] = {}

    def run_folder(config: Path) -> Path:
        return (
            options.output / config.stem
            if options.output
            else default_output(folder / "demo" / config.name if demo else config)
        )

    def add(path: Path, base: Path, changed: tuple[str, ...] = (), baseline: str = "") -> None:
        own = own_overrides(base, options.overrides)
        used.update(own)
        overrides = [*own, *changed, *budget]
        settings = read_settings(base, overrides)
        named = {key: settings.resolved.get(key) for key in STARTS}
        starts = {key: known[Path(value)] for key, value in named.items() if value and Path(value) in known}
        more = [f"{key}={json.dumps(str(run_folder(start)))}" for key, start in starts.items()]
        more += people_of_a_short_run(settings, overrides) if demo and options.steps is not None else []
        if more:
            overrides += more
            settings = read_settings(base, overrides)
        runs[path.stem] = Run(
            name=path.stem,
            config=base,
            folder=run_folder(path),
            settings=settings,
            overrides=tuple(overrides),
            changed=changed,
            baseline=baseline,
            starts=tuple(start.stem for start in starts.values()),
        )

    for path in small:
        add(path, path)
    for path in ablations:
        values = load_yaml(path)
        base = base_of(path, values, demo)
        if base.stem == path.stem:
            raise UserError(f"{path} has the name of its baseline; rename it")
        if base.stem not in runs:
            add(base, base)
        add(path, base, own_changes(path, values), base.stem)
    if unused := [text for text in options.overrides if text not in used]:
        raise UserError(f"no stage of this set has the key {unused[0].partition('=')[0]}; leave {unused[0]} out")
    return runs


def budget_of(options: argparse.Namespace) -> list[str]:
    """The settings that --minutes or --steps stand for."""
    if options.steps is not None:
        return [f"steps={options.steps}", "max_minutes=null"]
    return [f"max_minutes={options.minutes}"] if options.minutes is not None else []


def people_of_a_short_run(settings: RunSettings, overrides: list[str]) -> list[str]:
    """views.people=N, where the teacher would render more people than the steps of a run can show; else nothing."""
    trainer, views = settings.trainer, getattr(settings.task_config, "views", None)
    shown = trainer.steps * trainer.accumulate * trainer.loader.batch
    given = any(text.startswith("views.people=") for text in overrides)
    return [] if given or views is None or shown >= views.people else [f"views.people={shown}"]


def to_render(run: Run) -> str:
    """What the teacher of a run renders before the first step, in words; empty if nothing."""
    task = run.settings.task_config
    people = people_to_render(task.views) if getattr(task, "teacher", "") == "procedural" else 0
    return f", after its teacher has rendered {people} people, once for all runs (views.people)" if people else ""


def own_overrides(config: Path, overrides: list[str]) -> list[str]:
    """Those of the overrides whose key the stage of a config has; groups of free names (loss, model) have any."""
    settings = read_settings(config)
    known = {*key_names(type(settings.trainer)), *key_names(type(settings.task_config))}
    free = ("loss.", "model.")
    return [o for o in overrides if (key := o.partition("=")[0]) in known or (key.startswith(free) and "loss" in known)]


def of_seed(run: Run, number: int) -> Run:
    """The same run with the seed of its config plus `number`, in a folder of its own; 0: the run itself."""
    if number == 0:
        return run
    overrides = (*run.overrides, f"seed={run.settings.trainer.seed + number}")
    folder = run.folder.with_name(f"{run.folder.name}_seed{number}")
    return replace(run, folder=folder, overrides=overrides, settings=read_settings(run.config, list(overrides)))


def in_order(runs: Mapping[str, Run], chosen: list[str]) -> list[Run]:
    """The chosen runs after their baselines and after the runs that they start from."""
    ordered: list[Run] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name and name not in seen:
            seen.add(name)
            for before in (*runs[name].starts, runs[name].baseline):
                visit(before)
            ordered.append(runs[name])

    for name in chosen:
        visit(name)
    return ordered


def chosen_names(runs: Mapping[str, Run], only: list[str] | None) -> list[str]:
    """All ablations, or those that were asked for.

    Raises:
        UserError: a name is unknown.
    """
    names = [name for name, run in runs.items() if run.baseline]
    for name in only or ():
        if name not in names:
            raise UserError(f"unknown ablation: {name}{nearest(name, names)}")
    return only or names


def changes_nothing(run: Run, runs: Mapping[str, Run]) -> bool:
    """Whether an ablation has the settings of its baseline, for example if it removes a loss that the demo lacks."""
    return bool(run.baseline) and run.settings.resolved == runs[run.baseline].settings.resolved


def check(run: Run) -> None:
    """Find what would stop the run, before any run begins.

    Raises:
        UserError: the checkpoint to start from is missing, or the folder has a run with other settings.
    """
    if run.others:
        raise UserError(
            f"{run.folder} was trained with other settings ({', '.join(run.others[:3])} changed); choose "
            "another --output, or move the folder away"
        )
    for key in STARTS:
        value = run.settings.resolved.get(key)
        if value and Path(value).name not in run.starts:
            try:
                for part in value.split(","):
                    find_checkpoint(part.strip(), (PORTRAIT_PART, SPEECH_PART, SYNC_PART))
            except UserError as error:
                config = Path("configs", *Path(value).parts[1:]).with_suffix(".yaml")
                advice = f"; train that first: python -m tasks.run {config}" if config.is_file() else ""
                raise UserError(f"{run.name} starts from {value} ({key}), which holds no checkpoint{advice}") from error


def check_clips(runs: Iterable[Run]) -> None:
    """Find all folders without prepared clips, before any run begins.

    Raises:
        UserError: there are some; the message names all of them, with the commands that make them.
    """
    ways: dict[Path, str] = {}
    instead: dict[str, None] = {}
    for run in runs:
        task = run.settings.task_config
        data = getattr(task, "data", None)
        for key in ("folder", "validation_folder"):
            folder = getattr(data, key, "")
            if folder and not is_address(folder) and Path(folder) not in ways and not _has_clips(Path(folder)):
                face_model = getattr(data, "face_model", None) or task.face_model
                speech, held_out = hasattr(task, "features"), key == "validation_folder"
                ways[Path(folder)] = _how_to_make(Path(folder), face_model, speech, held_out)
                if held_out and any(text.startswith("data.folder=") for text in run.overrides):
                    instead[own_people(data.folder)] = None
    if ways:
        advice = "; ".join((*ways.values(), *instead))
        raise UserError(f"no prepared clips in {', '.join(map(str, ways))}; make them: {advice}")


def _has_clips(folder: Path) -> bool:
    try:
        list_clips(folder)
    except UserError:
        return False
    return True


def _how_to_make(folder: Path, face_model: str, speech: bool, held_out: bool) -> str:
    procedural = face_model == "procedural"
    config, count = ("speech", "clips=20") if speech else ("procedural", "people=8")
    command = f"python -m data_gen.run configs/data/{config if procedural else 'videos'}.yaml"
    people = f" first_seed={HELD_OUT_SEED} {count}" if procedural and held_out else ""
    return f"{command} folder={folder}{people}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# ---- training


def train_run(run: Run, device: str) -> None:
    """Train a run, or resume it, and store its result."""
    trainer = train(parse([str(run.config), *run.overrides, "--output", str(run.folder), "--device", device]))
    write_whole(run.folder / RESULT, json.dumps(result_of(run, trainer), indent=1))


def result_of(run: Run, trainer: Trainer) -> Result:
    """A row of the table: parameters of each module, last validation metrics, steps, minutes and seed of a run."""
    modules = {name: module for name, module in trainer.task.modules.items() if name != "discriminator"}
    parameters = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    return {
        "name": run.name,
        "task": trainer.task.name,
        "baseline": run.baseline,
        "changed": list(run.changed),
        "parameters": {name: count for name, count in parameters.items() if count},
        "metrics": last_validation(run.folder / "metrics.jsonl"),
        "losses": last_of(run.folder / "metrics.jsonl", "loss/"),
        "steps": trainer.step,
        "minutes": round(trainer.elapsed / 60, 2),
        "seed": run.settings.trainer.seed,
    }


def last_validation(path: Path) -> dict[str, float]:
    """The last validation metrics of a run; empty if it never validated."""
    return last_of(path, "validation/")


def last_of(path: Path, group: str) -> dict[str, float]:
    """The last numbers of a run whose names begin with `group`, by the rest of the name."""
    last: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        values = {name.removeprefix(group): v for name, v in json.loads(line).items() if name.startswith(group)}
        last = values or last
    return last


def finished(seeds: list[Run], evaluation: AblationEvaluation | None) -> Result | None:
    """The result of a run with all its seeds, and what was measured of them; None where one is missing."""
    results = [seed.result for seed in seeds]
    if evaluation is None or None in results:
        return None if None in results else mean_of_seeds(results)
    return mean_of_seeds(
        [with_figures(result, evaluation.figures(seed.folder, seed.model)) for seed, result in zip(seeds, results)]
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with writing(path.parent), whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def ablate(options: argparse.Namespace) -> None:
    """Train the runs that have no result yet, and write table.md and table.json after every run."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "tasks.ablate runs in one process; train each YAML with torchrun -m tasks.run, then run "
            "tasks.ablate, which only adds what is missing"
        )
    runs = read_set(options)
    todo = in_order(runs, chosen_names(runs, options.only))
    seeds = {name: [of_seed(run, number) for number in range(options.seeds)] for name, run in runs.items()}
    check_clips(todo)
    for run in todo:
        for seed in seeds[run.name]:
            check(seed)
    output = options.output or default_output(options.folder / ("demo/table" if options.demo else "table")).parent
    evaluation = evaluation_of(options, output / "evaluation", todo)
    every = in_order(runs, chosen_names(runs, None))
    results = {run.name: finished(seeds[run.name], evaluation) for run in every}
    same = {run.name for run in todo if changes_nothing(run, runs)}
    trainings = (len(todo) - len(same)) * options.seeds
    numbers = itertools.count(1)
    for run in todo:
        if run.name in same:
            print(f"{run.name} ({', '.join(run.changed)}): nothing changes at this size", flush=True)
            nothing = {"baseline": run.baseline, "changed": [*run.changed, "(nothing at this size)"]}
            results[run.name] = {**results[run.baseline], "name": run.name, **nothing}
        else:
            for seed in seeds[run.name]:
                state = f"training{to_render(seed)}" if seed.result is None else "finished before"
                what = ", ".join(run.changed) or "baseline"
                if options.seeds > 1:
                    what += f", seed {seed.settings.trainer.seed}"
                print(f"[{next(numbers)}/{trainings}] {run.name} ({what}): {state}", flush=True)
                if seed.result is None:
                    train_run(seed, options.device)
                if evaluation:
                    evaluation.judge(seed.folder, seed.model, show)
            results[run.name] = finished(seeds[run.name], evaluation)
        rows = rows_of([result for result in results.values() if result])
        text = as_markdown(rows) + (f"\n{evaluation.report()}" if evaluation else "")
        write_whole(output / "table.json", json.dumps(rows, indent=1))
        write_whole(output / "table.md", text)
    print(f"\n{text}\n{output / 'table.md'}, {output / 'table.json'}")


def evaluation_of(options: argparse.Namespace, output: Path, runs: list[Run]) -> AblationEvaluation | None:
    """What --evaluate asks for, with its clips; None without it.

    Raises:
        UserError: see `AblationEvaluation.prepare`.
    """
    if options.evaluate is None:
        return None
    evaluation = AblationEvaluation(output, tuple(options.evaluate), options.device, own_clips=options.demo)
    evaluation.prepare([run.model for run in runs])
    return evaluation


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 128 + N after signal N (Ctrl-C 130, SIGTERM 143)."""
    options = arguments_of(arguments)
    return run_command(lambda: ablate(options))


if __name__ == "__main__":
    sys.exit(main())
