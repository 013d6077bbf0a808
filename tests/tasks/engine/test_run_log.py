import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modules.system.errors import UserError
from tasks.engine.run_log import Means, RunLog, animated


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


def test_the_line_of_a_step_has_the_largest_losses_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = RunLog(tmp_path, 0, 4, tensorboard=False, stream=stream)
    log.progress(1, {f"loss/{name}": value for name, value in zip("abcdef", (5, 1, 4, 2, 6, 3))}, 1.0, 0.0)
    log.close()
    assert "a 5  c 4  e 6  f 3  and 2 smaller losses" in stream.getvalue()


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


def test_a_video_moves_at_25_frames_a_second_and_repeats() -> None:
    video = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 6, 8, 3) * 50
    with Image.open(io.BytesIO(animated(video))) as file:
        assert file.format == "GIF" and file.n_frames == 5 and file.size == (8, 6) and file.info["loop"] == 0
        for number in range(5):
            file.seek(number)
            assert file.info["duration"] == 40
            assert file.convert("RGB").getpixel((3, 3)) == pytest.approx((50 * number,) * 3, abs=3)


def test_videos_are_files_and_play_in_tensorboard(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, 9, stream=io.StringIO())
    video = torch.zeros(3, 4, 6, 3, dtype=torch.uint8)
    video[1] = 255
    log.videos(3, {"a/b": video})
    log.close()
    stored = (tmp_path / "pictures/00000003_a_b.gif").read_bytes()
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    (event,) = board.Images("a/b")
    assert event.encoded_image_string == stored == animated(video) and (event.width, event.height) == (6, 4)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, 0, 9, tensorboard=False, stream=io.StringIO())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for write in (lambda: log.scalars(1, {"a": 1.0}), lambda: log.videos(1, {"a": torch.zeros(2, 1, 1, 3).byte()})):
        with pytest.raises(UserError, match=f"cannot write to {tmp_path}: No space left on device; free some space"):
            write()
