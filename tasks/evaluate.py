"""Measure checkpoints, and videos of any other method, by one of the paper's protocols; a stopped run goes on.

python -m tasks.evaluate configs/evaluate/same_identity.yaml videos=FOLDER checkpoint=checkpoints/demo output=FOLDER
python -m tasks.evaluate configs/evaluate/cross_identity.yaml videos=FOLDER methods='{name: FOLDER}' --workers 2
python -m tasks.evaluate configs/evaluate/audio_driven.yaml videos=FOLDER checkpoint=checkpoints/demo --study
python -m tasks.evaluate configs/evaluate/same_identity.yaml videos=FOLDER methods='{b: FOLDER}' --compare demo b
python -m tasks.evaluate --study-results FOLDER

docs/evaluation.md defines protocols and measures.
"""

import argparse
import sys
from pathlib import Path

from modules.system.errors import UserError, run_command
from tasks.evaluation.cases import Case
from tasks.evaluation.outputs import kept_cases, write_comparison, write_outputs
from tasks.evaluation.run import score_all
from tasks.evaluation.settings import read_evaluation
from tasks.evaluation.study import study_results, write_study
from tasks.evaluation.tables import Results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; None means the arguments of this process."""
    parser = argparse.ArgumentParser(prog="python -m tasks.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", help="a YAML of configs/evaluate/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: videos=clips size=256")
    parser.add_argument("--workers", type=int, default=1, help="processes; the figures are the same (default: 1)")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="also the differences of two methods, by pairs")
    parser.add_argument("--study", action="store_true", help="also write the page of a user study")
    parser.add_argument(
        "--study-results", type=Path, metavar="FOLDER", help="table of the scores that people sent back"
    )
    return parser.parse_intermixed_args(arguments)


def evaluate(options: argparse.Namespace) -> None:
    """Make what is missing, and write all tables."""
    if options.workers < 1:
        raise UserError(f"--workers is {options.workers}; give at least 1")
    config = read_evaluation(options.config, options.overrides)
    for name in options.compare or ():
        if name not in config.table:
            raise UserError(f"--compare {name}: no such method; there are {', '.join(config.table)}")
    if options.study and config.protocol == "speech_to_motion":
        raise UserError("--study needs videos; speech_to_motion has none")
    cases, notes = score_all(config, options.workers, show)
    print(f"\n{write_outputs(config, cases, notes)}\n\n{config.output / 'report.html'}, {config.output / 'table.json'}")
    if options.compare:
        print(f"\n{write_comparison(config, cases, *options.compare)}")
    if options.study:
        kept = kept_cases(Results.read(config, cases))
        print(f"\n{write_study(config.output, list(config.table), kept, config.seed)}: give it to people")


def show(done: int, count: int, case: Case, made: int) -> None:
    """A line for every case."""
    print(f"[{done}/{count}] {case.name}: {f'{made} methods' if made else 'finished before'}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 130 after Ctrl-C."""
    options = parse(arguments)

    def body() -> None:
        if options.study_results:
            print(study_results(options.study_results))
        elif options.config is None:
            raise UserError("give a config, such as configs/evaluate/same_identity.yaml, or --study-results FOLDER")
        else:
            evaluate(options)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
