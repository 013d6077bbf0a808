import pytest

import tasks.engine.timer
from tasks.engine.timer import Timer


def test_parts_are_counted_together_and_reading_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 5.0, 6.0, 10.0, 14.0, 20.0, 21.0])
    monkeypatch.setattr(tasks.engine.timer.time, "perf_counter", lambda: next(times))
    timer = Timer()
    for part in ("forward", "backward", "forward"):
        with timer(part):
            pass
    assert timer.read() == {"forward": 6.0, "backward": 1.0}
    with pytest.raises(KeyError), timer("backward"):
        raise KeyError
    assert timer.read() == {"backward": 1.0} and timer.read() == {}
