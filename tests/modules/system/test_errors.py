"""The exits of commands; those after signals are tested in test_interrupts.py."""

import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import numpy as np
import pytest
import torch

from modules.system.errors import UserError, run_command
from tests.conftest import ROOT

LATER = "input()"  # waits until the reader is gone
BODIES = {
    "many lines": "[print('line', n) for n in range(100_000)]",
    "many lines, each at once": "[print('line', n, flush=True) for n in range(100_000)]",
    "a line in the buffer at the end": f"print('line 0', flush=True), {LATER}, print('line 1')",
    "an error after it": f"print('line 0', flush=True), {LATER}, print('line 1'), fail()",
}
COMMAND = """
import sys
from modules.system.errors import UserError, run_command

def fail():
    raise UserError("too late")

sys.exit(run_command(lambda: [{body}]))
"""


def start(body: str, **streams: int) -> subprocess.Popen:
    command = [sys.executable, "-c", COMMAND.format(body=body)]
    return subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, **streams)


def read_one_line(process: subprocess.Popen) -> str:
    """As `| head -1` does."""
    line = process.stdout.readline()
    process.stdout.close()
    return line


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_reader_that_goes_ends_a_command_without_a_word(body):
    with start(body, stderr=PIPE) as process:
        assert read_one_line(process) == "line 0\n"
        _, said = process.communicate("\n", timeout=60)
    assert process.returncode == 141 and said.removeprefix("error: too late\n") == ""


def test_the_same_holds_where_errors_go_the_same_way():
    with start("[print('line', n, file=sys.stderr) for n in range(100_000)]", stderr=STDOUT) as process:
        assert read_one_line(process) == "line 0\n"
    assert process.returncode == 141


def test_all_that_is_read_ends_well():
    with start("print('line 0')", stderr=PIPE) as process:
        assert process.communicate(timeout=60) == ("line 0\n", "")
    assert process.returncode == 0


def test_another_broken_pipe_is_an_error_like_any():
    with start("print('line 0') or (_ for _ in ()).throw(BrokenPipeError('of a worker'))", stderr=PIPE) as process:
        written, said = process.communicate(timeout=60)
    assert (process.returncode, written) == (1, "line 0\n") and "BrokenPipeError: of a worker" in said


def test_a_list_of_a_real_command_can_be_cut():
    line = [sys.executable, "-m", "scripts.assets", "list"]
    with subprocess.Popen(line, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True, bufsize=1) as process:
        assert read_one_line(process).startswith("groups: ")
        assert process.stderr.read() == ""
    assert process.returncode in (0, 141)  # 0: the pipe took all before it was closed


def test_what_a_user_can_mend_is_one_line(capsys):
    def body() -> None:
        raise UserError("no such clip; choose another")

    assert run_command(body) == 2 and run_command(lambda: None) == 0
    assert capsys.readouterr().err == "error: no such clip; choose another\n"


@pytest.mark.parametrize(
    "ask",
    [lambda: np.empty(1 << 50, np.uint8), lambda: torch.empty(1 << 50), lambda: bytearray(1 << 60)],
    ids=["numpy", "torch", "python"],
)
def test_too_little_memory_is_one_line(ask, capsys):
    assert run_command(lambda: ask() and None) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there is too little memory (") and error.count("\n") == 1


def test_other_faults_of_the_program_stay_faults():
    def body():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(body)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_on_a_full_disk_is_one_line():
    program = (
        "import sys; from modules.system.errors import run_command; sys.exit(run_command(lambda: print('x' * 99)))"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=PIPE, text=True, timeout=60
        )
    assert ended.returncode == 2
    assert ended.stderr == "error: the output cannot be written (No space left on device); free some space\n"
