"""The tools around the code: one command runs every check, and all settings agree with each other."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
CHECKS = [
    "ruff format --check .",
    "ruff check .",
    "mypy",
    "python -m pytest -n auto --dist loadfile -m not slow -k a word",
]
SUPPORTED = re.compile(r"\((\d), (\d+)\) <= sys.version_info\[:2\] <= \((\d), (\d+)\)")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts beside a .venv whose tools only write down how they were called; `breaks` names one that fails."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (tmp_path / "scripts" / "setup.sh").write_text("#!/usr/bin/env bash\n", encoding="utf-8")  # nothing to install
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("ruff", "mypy", "python"):
        (tools / name).write_text(
            '#!/usr/bin/env bash\ncall="$(basename "$0") $*"\necho "${call% }" >> calls.txt\n'
            'case "$call" in "$(cat breaks 2>/dev/null || echo -)"*) exit 3;; esac\n',
            encoding="utf-8",
        )
        (tools / name).chmod(0o755)
    return tmp_path


def check(folder: Path) -> tuple[int, list[str]]:
    """Exit code of scripts/check.sh, and the tools that it called."""
    command = [shutil.which("bash"), "scripts/check.sh", "-k", "a word"]
    code = subprocess.run(command, cwd=folder, check=False).returncode
    return code, (folder / "calls.txt").read_text(encoding="utf-8").splitlines()


def test_one_command_runs_every_check_and_hands_arguments_to_the_tests(checkout: Path) -> None:
    assert check(checkout) == (0, CHECKS)


@pytest.mark.parametrize("number", range(len(CHECKS)))
def test_the_first_check_that_fails_ends_the_command(checkout: Path, number: int) -> None:
    (checkout / "breaks").write_text(CHECKS[number], encoding="utf-8")
    assert check(checkout) == (3, CHECKS[: number + 1])


def test_hooks_before_a_commit_run_the_same_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    entries = [hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in hooks]
    assert sorted(entries) == sorted(call.replace(" --check", "").removesuffix(" .") for call in CHECKS[:3])


def test_the_workflow_runs_that_command_on_the_oldest_and_the_newest_python() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))["jobs"]["checks"]
    bounds = SUPPORTED.search((ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")).groups()
    oldest, newest = ".".join(bounds[:2]), ".".join(bounds[2:])
    assert job["strategy"]["matrix"]["python"] == [oldest, newest]
    assert job["steps"][-1]["run"] == "bash scripts/check.sh"
    assert SETTINGS["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert SETTINGS["mypy"]["python_version"] == oldest


def test_settings_of_tools_stand_in_one_place() -> None:
    others = ("ruff.toml", ".ruff.toml", "mypy.ini", ".mypy.ini", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")
    assert [name for name in others if (ROOT / name).exists()] == []
    assert (ROOT / ".editorconfig").read_text(encoding="utf-8").count(
        f"max_line_length = {SETTINGS['ruff']['line-length']}\n"
    ) == 3


def test_what_mypy_checks_is_there() -> None:
    folders = SETTINGS["mypy"]["files"]
    assert folders and all(list((ROOT / folder).glob("*.py")) for folder in folders)


@pytest.mark.parametrize(
    "line", [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(line: str) -> None:
    wanted = Requirement(line)
    pins = [Requirement(pin) for pin in (ROOT / "constraints.txt").read_text().splitlines() if "==" in pin]
    versions = [next(iter(pin.specifier)).version for pin in pins if pin.name.lower() == wanted.name.lower()]
    assert len(versions) == 1 and versions[0] in wanted.specifier


def test_the_citation_is_of_the_paper_that_the_readme_names() -> None:
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert paper["title"] in readme and f"ICLR {paper['year']}" in readme
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in readme
    assert paper["authors"][0]["family-names"] == "Ye" and len(paper["authors"]) == 14
