import pytest

import tasks.engine.timer
from tasks.engine.timer import Clock


def test_parts_are_counted_together_and_reading_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 5.0, 6.0, 10.0, 14.0, 20.0, 21.0])
    monkeypatch.setattr(tasks.engine.timer.time, "perf_counter", lambda: next(times))
    clock = Clock()
    for part in ("forward", "backward", "forward"):
        with clock(part):
            pass
    assert clock.read() == {"forward": 6.0, "backward": 1.0}
    with pytest.raises(KeyError), clock("backward"):
        raise KeyError
    assert clock.read() == {"backward": 1.0} and clock.read() == {}
