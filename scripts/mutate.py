"""Mutation testing: one-line changes of recipe and core, and the test that notices each.

    python -m scripts.mutate --seed 0 --count 40 --output mutations.md
    python -m scripts.mutate --only modules/rendering configs/i2p.yaml --list

A copy of the tree is changed, never the tree itself. In it run the mirror test of the changed file, the tests of its
importers (nearest first) and the golden checks that see it, until one fails (KILLED). A change that no test notices
(SURVIVED) asks for a test, unless it changes nothing that matters. One that does not import (BROKEN) is replaced by
another. A stopped run resumes where its table ends; `--again` gives the survivors of the table another try. Golden
numbers and pictures take part where $REAL3D_SHARED names their folder by an absolute path.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from scripts.mutations import Mutation, draw, sites

ROOT = Path(__file__).resolve().parents[1]
# fmt: off
CANDIDATES = ("modules/portrait", "modules/rendering", "modules/losses", "modules/geometry",
              "modules/face3d/pncc.py", "modules/face3d/coefficients.py", "modules/audio/audio2motion.py",
              "tasks/stages", "tasks/engine/optimization.py", "tasks/engine/ema.py", "inference/pipeline.py",
              "configs/base.yaml", "configs/i2p.yaml", "configs/motion_adapter.yaml", "configs/htbsr.yaml",
              "configs/syncnet.yaml", "configs/a2m.yaml")
# fmt: on
NOT_COPIED = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
GOLDEN, OWN_TEST = "tests/test_golden.py", "tests/scripts/test_mutate.py"
HANGS = 300  # seconds that one test may take

KILLED, SURVIVED, BROKEN = "KILLED", "SURVIVED", "BROKEN"
Graph = dict[str, set[str]]  # file -> files that import it
Verdict = tuple[str, str]  # KILLED, SURVIVED or BROKEN, and the test that decided


def candidate_files(root: Path, only: Sequence[str]) -> list[str]:
    """Files with something to change, relative to `root`, in order.

    Raises:
        UserError: a path of `only` that is not there, or of files that are no candidates.
    """
    paths = [root / name for name in CANDIDATES]
    files = {
        file
        for path in paths
        for file in (path.rglob("*.py") if path.is_dir() else [path])
        if file.is_file() and file.name != "__init__.py" and sites(file)
    }
    chosen = {name: {path for path in files if path == root / name or root / name in path.parents} for name in only}
    for name, matches in chosen.items():
        if not matches:
            raise UserError(f"--only {name}: no such file, or none that is changed; there are {', '.join(CANDIDATES)}")
    return sorted(path.relative_to(root).as_posix() for path in (set.union(*chosen.values()) if only else files))


def copied(root: Path, folder: Path) -> Path:
    """A copy of the project without environment, caches, data and results."""

    def left_out(directory: str, names: list[str]) -> set[str]:
        relative = Path(directory).relative_to(root)
        results = {".": {"runs", "data", "infer_out"}, "checkpoints": {*names} - {"demo"}}
        return NOT_COPIED | results.get(relative.as_posix(), set())

    return shutil.copytree(root, folder / "project", ignore=left_out)


# ---- which tests see a file


def import_graph(root: Path) -> Graph:
    """Who imports whom, or names its module in a string; tests see the conftests above them.

    A test that names `configs` or a file of it sees all YAML there.
    """
    packages = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    paths = [path.relative_to(root) for package in packages for path in package.rglob("*.py")]
    modules = {".".join(path.with_suffix("").parts): path.as_posix() for path in paths}
    graph: Graph = {path: set() for path in modules.values()}
    for path in paths:
        names = {f"{'.'.join(folder.parts)}.conftest" for folder in path.parents if path.name != "conftest.py"}
        for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
                names.add(node.value)
            elif isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
                start = node.values[0].value
                names |= {name for name in modules if start.endswith(".") and name.startswith(start)}
        for name in names & modules.keys():
            graph[modules[name]].add(path.as_posix())
        if path.parts[0] == "tests" and any(name == "configs" or name.startswith("configs/") for name in names):
            for config in (root / "configs").glob("*.yaml"):
                graph.setdefault(config.relative_to(root).as_posix(), set()).add(path.as_posix())
    return graph


def seen_by(graph: Graph, path: str) -> list[str]:
    """Files that import `path`, themselves or through others, nearest first; its mirror test before all."""
    found, mirror = [path], Path("tests", path).with_name(f"test_{Path(path).name}").as_posix()
    for file in found:  # it grows
        found += sorted(graph.get(file, set()) - {*found})
    whole = path.endswith(".yaml")  # tests of whole recipes are at the top
    return sorted(found, key=lambda file: (file != mirror, whole and file.count("/")))


def groups_of_tests(root: Path, graph: Graph, path: str) -> list[list[str]]:
    """Arguments of pytest: the nearest test file, the others, the golden checks."""
    files = seen_by(graph, path)
    tests = [file for file in files if Path(file).name.startswith("test_") and file not in (GOLDEN, OWN_TEST)]
    checks = [
        node.name
        for file in files
        if file.startswith("tests/golden/") and file not in tests
        for node in ast.parse((root / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    golden = [GOLDEN, "-k", " or ".join(checks)] if GOLDEN in graph and checks else []
    return [group for group in (tests[:1], tests[1:], golden) if group]


# ---- trying a mutation


def failing_test(root: Path, arguments: list[str], seconds: float) -> tuple[int, str]:
    """Pytest's exit code and the first test that fails or hangs; a file's name if it cannot be collected.

    Raises:
        subprocess.TimeoutExpired: it took longer than `seconds`.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-vv",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "-o",
        f"faulthandler_timeout={HANGS}",
        "-o",
        "faulthandler_exit_on_timeout=true",
        *arguments,
    ]
    # no bytecode: Python would take a file that was changed within a second and kept its size for the old one
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and tests)
        command,
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,  # noqa: S603 - our own pytest
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=seconds)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with what the tests have started
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
    begun = re.findall(r"^(tests/\S+?::.+?)(?: [A-Z]+ +\[ *\d+%\].*)?$", output, re.MULTILINE)
    return process.returncode, (failed or begun[-1:] or [output[-300:]])[0]


class Trial:
    """Tries mutations in a copy of the tree, `minutes` at most for each."""

    def __init__(self, root: Path, minutes: float) -> None:
        self.root, self.seconds = root, 60 * minutes
        self.graph = import_graph(root)
        self.sound: set[str] = set()  # tests that pass without a change

    def verdict(self, mutation: Mutation) -> Verdict:
        """KILLED by a test, SURVIVED or BROKEN.

        Raises:
            UserError: the test that fails does so without the change as well.
        """
        path, end = self.root / mutation.path, time.monotonic() + self.seconds
        original = path.read_text(encoding="utf-8")
        lines = original.splitlines(keepends=True)
        lines[mutation.line - 1] = lines[mutation.line - 1].replace(mutation.before, mutation.after)
        path.write_text("".join(lines), encoding="utf-8")
        try:
            for group in groups_of_tests(self.root, self.graph, mutation.path):
                code, test = failing_test(self.root, group, end - time.monotonic())
                if code not in (0, 5):  # 5: all tests of the group are slow
                    break
            else:
                return SURVIVED, ""
        except subprocess.TimeoutExpired:
            return SURVIVED, f"(not all tests ran in {self.seconds / 60:g} minutes)"
        finally:
            path.write_text(original, encoding="utf-8")
        if "::" not in test:
            return BROKEN, ""
        if test not in self.sound and failing_test(self.root, [test], self.seconds)[0] not in (0, 5):
            raise UserError(f"{test} fails without any change; mend it first")
        self.sound.add(test)
        return KILLED, test


# ---- the table


def read_table(path: Path) -> dict[str, Verdict]:
    """First cells of a row -> verdict, of all rows of a table that was written before."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = re.findall(rf"^(\| .+) \| ({KILLED}|{SURVIVED}|{BROKEN}) \| (.*?) *\|$", text, re.MULTILINE)
    return {cells: (verdict, by) for cells, verdict, by in rows}


def write_table(path: Path, verdicts: dict[str, Verdict]) -> None:
    """Write the table of all verdicts in place of the old one."""
    counted = [verdict for verdict, _ in verdicts.values()]
    lines = [
        "# Mutations",
        "",
        f"{counted.count(KILLED)} killed, {counted.count(SURVIVED)} survived, {counted.count(BROKEN)} broken.",
        "",
        "| file | line | became | verdict | by |",
        5 * "| --- " + "|",
    ]
    with named_file(path) as part:
        part.write_text(
            "\n".join([*lines, *(f"{cells} | {verdict} | {by} |" for cells, (verdict, by) in verdicts.items()), ""]),
            encoding="utf-8",
        )


def mutate(root: Path, options: argparse.Namespace) -> None:
    """Draw, try and report; see `main`."""
    if options.list and options.again:
        raise UserError("--again tries changes and --list only shows them; choose one")
    drawn = draw(root, candidate_files(root, options.only), options.seed)
    if options.list:
        for mutation in islice(drawn, options.count):
            print(
                f"{mutation.kind:20} {mutation.path}:{mutation.line}\n  - {mutation.before.strip()}\n"
                f"  + {mutation.after.strip()}"
            )
        return
    verdicts, counted, seconds = read_table(options.output), 0, []
    with TemporaryDirectory() as folder:
        trial = Trial(copied(root.resolve(), Path(folder)), options.minutes)
        while counted < options.count and (mutation := next(drawn, None)) is not None:
            start, known = time.monotonic(), verdicts.get(mutation.cells)
            if known is None or (options.again and known[0] == SURVIVED):
                known = verdicts[mutation.cells] = trial.verdict(mutation)
                write_table(options.output, verdicts)
                seconds.append(time.monotonic() - start)
            counted += known[0] != BROKEN
            left = (options.count - counted) * sum(seconds) / max(len(seconds), 1) / 60
            print(
                f"[{counted}/{options.count}, {left:.0f} minutes left] {known[0]} {mutation.path}:{mutation.line}  "
                f"{mutation.before.strip()}  ->  {mutation.after.strip()}  {known[1]}",
                flush=True,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="which changes (default 0)")
    parser.add_argument("--count", type=int, default=40, help="how many that import (default 40)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATH", help="files or folders to change")
    parser.add_argument("--list", action="store_true", help="show the changes and run nothing")
    parser.add_argument("--again", action="store_true", help="try the survivors of the table once more")
    parser.add_argument("--minutes", type=float, default=20, help="at most for one change (default 20)")
    parser.add_argument("--output", type=Path, default=Path("mutations.md"), help="the table (default mutations.md)")
    options = parser.parse_args(arguments)
    return run_command(lambda: mutate(ROOT, options))


if __name__ == "__main__":
    sys.exit(main())
