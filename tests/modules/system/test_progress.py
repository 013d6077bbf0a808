import io
import time

from modules.system.progress import with_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slow(frames: int, seconds: float):
    for number in range(frames):
        time.sleep(seconds)
        yield number


def test_without_a_terminal_lines_say_how_far_it_is(monkeypatch):
    monkeypatch.setattr("modules.system.progress.WARM_UP", 0.0)
    monkeypatch.setattr("modules.system.progress.WORTH_SAYING", 0.0)
    stream = io.StringIO()
    assert list(with_progress(slow(4, 0.01), 4, stream=stream, interval=0.0)) == [0, 1, 2, 3]
    estimate, *lines = stream.getvalue().splitlines()
    assert estimate.startswith("4 frames, about 0:00:0")
    assert lines[-1].startswith("frame 4/4") and "frames/s" in lines[-1] and "0:00:00 left" in lines[-1]


def test_what_the_items_cost_is_summed_up(monkeypatch):
    monkeypatch.setattr("modules.system.progress.WARM_UP", 0.0)
    stream = io.StringIO()
    list(with_progress(slow(3, 0.01), 3, stream=stream, interval=0.0, cost=lambda item: 1800.0))
    assert stream.getvalue().endswith("left  1.5 core-hours so far\n")
    terminal = Terminal()
    list(with_progress(range(3), 3, stream=terminal, cost=lambda item: 1800.0))
    assert "1.5 core-hours" in terminal.getvalue()


def test_what_is_soon_done_needs_no_words():
    stream = io.StringIO()
    assert list(with_progress(range(100), 100, stream=stream)) == list(range(100)) and stream.getvalue() == ""


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    assert list(with_progress(range(3), 3, stream=stream)) == [0, 1, 2]
    assert "3/3" in stream.getvalue()
