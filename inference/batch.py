"""Many videos by one command: the lines of a table, each with the options of one video (`--batch-file jobs.csv`)."""

import argparse
import csv
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from inference.options import check, check_given, default_output, note_of_renderer, written
from inference.pipeline import TalkingPortrait
from inference.video import make_video
from modules.system.errors import UserError, lack_of_memory, note, tell_error
from modules.system.files import same_file

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0", "")
Parse = Callable[[list[str]], argparse.Namespace]
Load = Callable[..., TalkingPortrait]


def make_batch(table: Path, parse: Parse, shared: list[str], say: Callable[[str], None]) -> str:
    """Make the video of every line whose outputs are not all there yet; a bad line is told of and left out.

    Args:
        table: CSV with a line of option names (source, audio, driving, output, mouth-amplitude, ...); paths count from
            the working directory, an empty cell is an option that is not given, flags are yes or no.
        parse: reads a command line; raises UserError where it is wrong.
        shared: options of the command that hold for all lines; a line may give others.
        say: told of every line that is done.
    Returns:
        How many were made, were there, and failed.
    Raises:
        UserError: the table cannot be read; or, at the end, lines failed.
    """
    defaults = vars(parse([]))
    (_, names), *lines = _rows(table)
    names = _options(table, names, {name for name in defaults if name not in ("given", "batch_file")})
    taken: dict[Path, int] = {}
    load = lru_cache(maxsize=1)(TalkingPortrait.load)
    note_once = lru_cache(maxsize=None)(note)
    made, failed = 0, []
    for number, cells in lines:
        try:
            options = parse([*shared, *_arguments(names, cells, defaults)])
            made += _make(options, number, taken, load, say, note_once)
        except UserError as error:
            failed.append(_failure(table, number, str(error)))
        except Exception as error:  # the other lines are still to be made
            if not lack_of_memory(error):
                traceback.print_exc()
            failed.append(_failure(table, number, f"{type(error).__name__}: {error}"))
    there = len(lines) - made - len(failed)
    summary = f"{table}: {made} made, {there} there already, {len(failed)} failed"
    if failed:
        raise UserError(f"{summary}: line {', '.join(map(str, failed))}")
    return summary


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty with their numbers, the names of the columns first."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            beginning = file.readline()
            file.seek(0)
            cells = csv.reader(file, delimiter=";" if ";" in beginning and "," not in beginning else ",")
            rows = [(cells.line_num, [cell.strip() for cell in row]) for row in cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--batch-file {table} cannot be read ({error}); give a CSV table in UTF-8") from error
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise UserError(f"--batch-file {table} is empty; its first line names options, such as source,audio,output")
    return rows


def _options(table: Path, names: list[str], known: set[str]) -> list[str]:
    """The options that the columns are called by, as attributes of a parsed command line."""
    result = [name.lstrip("-").replace("-", "_") for name in names]
    for name in result:
        if name not in known:
            raise UserError(
                f"--batch-file {table}: column {name!r} is no option; use source, audio, driving, output, or another "
                "option of inference.run by its name"
            )
        if result.count(name) > 1:
            raise UserError(f"--batch-file {table}: two columns are called {name}; leave one out")
    return result


def _arguments(names: list[str], cells: list[str], defaults: dict[str, object]) -> list[str]:
    """The cells of a line as a command line; cells that are missing at its end are empty."""
    if len(cells) > len(names):
        raise UserError(f"{len(cells)} cells under {len(names)} columns; put text with a comma into quotation marks")
    result = []
    for name, cell in zip(names, cells):
        option = f"--{name.replace('_', '-')}"
        if defaults[name] is not False:
            result += [f"{option}={cell}"] if cell else []
        elif cell.lower() in _YES:
            result.append(option)
        elif cell.lower() not in _NO:
            raise UserError(f"{option} is {cell!r}; write yes or no")
    return result


def _make(
    options: argparse.Namespace,
    number: int,
    taken: dict[Path, int],
    load: Load,
    say: Callable[[str], None],
    note_once: Callable[[str], None],
) -> bool:
    """Make one video and say so. Whether there was something to make."""
    if options.batch_file is not None:
        raise UserError("--batch-file is no option of a line; write it once, and in full")
    check_given(options)
    options.output = options.output or default_output(options)
    outputs = {name: path for name, path in written(options).items() if path is not None}
    for name, path in outputs.items():
        before = next((line for other, line in taken.items() if same_file(path, other)), None)
        if before is not None:
            raise UserError(f"{name} {path} is already that of line {before}; give it another name")
    taken |= dict.fromkeys(outputs.values(), number)
    if all(map(_is_there, outputs.values())):
        say(f"line {number}: {options.output} is there")
        return False
    check(options)
    summary, remark = make_video(options, load)
    if remark:
        note(f"line {number}: {remark}")
    if about := note_of_renderer(options):
        note_once(about)
    say(f"line {number}: {summary}")
    return True


def _is_there(path: Path) -> bool:
    """Whether an output is finished: all appear whole or not at all."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _failure(table: Path, number: int, reason: str) -> int:
    tell_error(f"{table} line {number}: {reason}")
    return number
