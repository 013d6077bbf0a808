"""The tools around the code: one command runs every check, and all settings agree with each other."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
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


# ---- the demo's training

# In place of .venv/bin/python: writes down its call, and waits in `tasks.run` until a signal stops it.
WAITING = """#!/usr/bin/env bash
case "$*" in
  -c*) exit "$(cat no_gpu)";;
esac
echo "$*" >> calls.txt
case "$*" in
  *tasks.run*) ;;
  *) exit 0;;
esac
for name in INT TERM HUP; do trap "kill \\$!; sleep 0.2; echo stopped by $name >> calls.txt; exit 1" "$name"; done
sleep 60 &
echo "$$" > step.txt
wait
"""
USUAL = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize("name, code", [("INT", 130), ("TERM", 143), ("HUP", 129)])
@pytest.mark.parametrize("no_gpu", [0, 1])
def test_a_stopped_training_of_the_demo_stops_its_step_and_waits_for_it(
    checkout: Path, name: str, code: int, no_gpu: int
) -> None:
    (checkout / ".venv" / "bin" / "python").write_text(WAITING, encoding="utf-8")
    (checkout / "no_gpu").write_text(str(no_gpu), encoding="utf-8")
    script = [shutil.which("bash"), "scripts/train_demo.sh"]  # a process in the background may ignore Ctrl-C
    process = subprocess.Popen([sys.executable, "-c", USUAL, *script], cwd=checkout)
    step = checkout / "step.txt"
    while not step.is_file() or not step.read_text().strip():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.wait(timeout=30) == code
    *before, running, last = (checkout / "calls.txt").read_text(encoding="utf-8").splitlines()
    assert last == f"stopped by {name}" and "configs/demo/i2p.yaml" in running and len(before) == 2
    assert ("torch.distributed.run" in running) == bool(no_gpu)
    with pytest.raises(ProcessLookupError):  # the step is gone
        os.kill(int(step.read_text()), 0)


def test_the_training_of_the_demo_ends_with_a_step_that_fails(checkout: Path) -> None:
    (checkout / "breaks").write_text("python -m data_gen.run configs/data/speech.yaml", encoding="utf-8")
    done = subprocess.run([shutil.which("bash"), "scripts/train_demo.sh"], cwd=checkout, check=False)
    calls = (checkout / "calls.txt").read_text(encoding="utf-8").splitlines()
    assert done.returncode == 3 and calls[-1] == "python -m data_gen.run configs/data/speech.yaml"
    assert [call.rpartition("/")[2] for call in calls if "tasks.run" in call] == ["i2p", "motion_adapter", "htbsr"]


def test_the_curves_of_the_demo_are_of_every_run_that_it_trains(checkout: Path) -> None:
    subprocess.run([shutil.which("bash"), "scripts/train_demo.sh"], cwd=checkout, check=True)
    calls = (checkout / "calls.txt").read_text(encoding="utf-8").splitlines()
    trained = [call.split(" --output ")[1] for call in calls if "tasks.run" in call]
    assert len(trained) == 5 and calls[-1] == (
        f"python -m scripts.plot_curves {' '.join(trained)} --output configs/demo/curves.png"
    )


# ---- settings


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


def test_an_editable_install_knows_every_package_and_brings_nothing_along() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {name.removesuffix("*") for name in SETTINGS["setuptools"]["packages"]["find"]["include"]} == packages
    assert "dependencies" not in whole["project"]  # scripts/setup.sh has them, in tested versions
    oldest, last = SUPPORTED.search((ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")).groups()[1::2]
    assert whole["project"]["requires-python"] == f">=3.{oldest},<3.{int(last) + 1}"


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
