import io
import json
from pathlib import Path

import pytest
import torch

from tasks.run_log import Means, RunLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_means_are_over_the_times_a_value_was_there_and_start_anew() -> None:
    means = Means()
    for value in (1.0, torch.tensor(3.0, requires_grad=True), 5):
        means.add("a", value)
    means.add("b", 7)
    read = means.read()
    assert float(read["a"]) == 3 and float(read["b"]) == 7 and not read["a"].requires_grad
    assert means.read() == {}


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(tmp_path: Path) -> None:
    outputs = []
    for stream in (Terminal(), io.StringIO()):
        log = RunLog(tmp_path, 0, 4, tensorboard=False, stream=stream)
        for step in range(1, 5):
            log.advance()
            log.progress(step, {"loss/fit": 0.25, "rate/all": 1e-4}, speed=12.0, seconds_left=65.4)
        log.line("done")
        log.close()
        outputs.append(stream.getvalue())
    assert "\r" in outputs[0] and "4/4" in outputs[0] and "fit 0.25" in outputs[0] and "done\n" in outputs[0]
    assert outputs[1].splitlines()[0] == "step 1/4  fit 0.25  12 images/s  0:01:05 left"
    assert "\r" not in outputs[1] and outputs[1].splitlines()[-1] == "done"


def test_what_an_interrupted_run_wrote_beyond_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, 9, tensorboard=False, stream=io.StringIO())
    for step in range(1, 5):
        log.scalars(step, {"loss/fit": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    RunLog(tmp_path, 2, 9, tensorboard=False, stream=io.StringIO()).scalars(3, {"loss/fit": 30.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss/fit": 1.0}, {"step": 2, "loss/fit": 2.0}, {"step": 3, "loss/fit": 30.0}]


@pytest.mark.parametrize("board", [True, False])
def test_pictures_are_files_and_in_tensorboard(tmp_path: Path, board: bool) -> None:
    log = RunLog(tmp_path, 0, 9, tensorboard=board, stream=io.StringIO())
    log.pictures(3, {"a/b": torch.zeros(4, 5, 3, dtype=torch.uint8)})
    log.close()
    assert (tmp_path / "pictures/00000003_a_b.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "tensorboard").exists() == board
