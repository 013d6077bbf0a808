"""Numbers of the server in Prometheus' format."""

import pytest

pytest.importorskip("prometheus_client", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.metrics import Metrics


def test_counters_and_what_is_watched_are_told_and_servers_do_not_share_them():
    first, second = Metrics(), Metrics()
    first.frames.labels("live").inc(3)
    first.first_frame.observe(0.6)
    level = [1.0]
    first.watch("level", "How high it is", lambda: level[0])
    level[0] = 5.0
    lines = first.text().decode().splitlines()
    assert 'real3d_frames_total{purpose="live"} 3.0' in lines and "real3d_level 5.0" in lines
    assert 'real3d_first_frame_seconds_bucket{le="0.5"} 0.0' in lines
    assert 'real3d_first_frame_seconds_bucket{le="0.75"} 1.0' in lines
    assert b"level" not in second.text() and b'purpose="live"' not in second.text()
