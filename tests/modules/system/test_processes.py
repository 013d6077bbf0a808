import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from modules.system.errors import UserError
from modules.system.files import whole_file
from modules.system.processes import run_all
from tests.conftest import ROOT


def where(offset: int, item: int) -> tuple[int, int, int]:
    """The item plus an offset, the process, and its threads."""
    return item + offset, os.getpid(), torch.get_num_threads()


def fail(item: int) -> int:
    raise UserError(f"item {item} is bad")


def die(item: int) -> None:
    os._exit(1)


def test_one_worker_is_this_process_and_keeps_the_order():
    results = list(run_all(partial(where, 10), [3, 1, 2], workers=1))
    assert [item for item, _, _ in results] == [13, 11, 12] and {pid for _, pid, _ in results} == {os.getpid()}
    assert list(run_all(fail, [], workers=4)) == []


def test_several_workers_do_every_item_once_with_one_thread_each():
    results = list(run_all(partial(where, 0), list(range(8)), workers=2))
    assert sorted(item for item, _, _ in results) == list(range(8))
    assert os.getpid() not in {pid for _, pid, _ in results} and {threads for _, _, threads in results} == {1}


def test_an_error_of_a_worker_is_raised_here():
    with pytest.raises(UserError, match="item [12] is bad"):
        list(run_all(fail, [1, 2], workers=2))


def test_a_killed_worker_is_explained():
    with pytest.raises(UserError, match="fewer workers"):
        list(run_all(die, [1, 2], workers=2))


def write_slowly(folder: str, item: int) -> None:
    with whole_file(Path(folder) / f"{item}.txt") as part:
        part.write_text("half of it")
        time.sleep(60)


COMMAND = """
import signal, sys
from functools import partial
from modules.system.errors import run_command
from modules.system.processes import run_all
from tests.modules.system.test_processes import write_slowly

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    sys.exit(run_command(lambda: list(run_all(partial(write_slowly, sys.argv[1]), range(4), workers=2))))
"""


@pytest.mark.parametrize(
    "number, to_all, code",
    [(signal.SIGTERM, False, 143), (signal.SIGINT, True, 130), (signal.SIGHUP, True, 129), (signal.SIGTERM, True, 143)],
)
def test_a_signal_to_the_command_or_to_all_its_processes_leaves_no_file_and_no_process(tmp_path, number, to_all, code):
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    folder = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, script, folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while process.poll() is None and len(list(folder.glob(".*.part"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, message = process.communicate(timeout=60)  # until all processes have ended, which share the pipe
    assert (process.returncode, message) == (code, "stopped\n")
    assert list(folder.iterdir()) == []
