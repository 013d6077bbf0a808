"""Numbers for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_WAITS = (0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8)  # seconds


class Metrics:
    """Counters of one server.

    Attributes:
        answers: of HTTP and WebSockets, by method and status.
        frames: made, by what for: live or video.
        first_frame: seconds from the first sound of a speech to its first frame.
        videos: that ended, by how: done, failed, cancelled.
        uploaded: bytes.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own = {"registry": self._registry}
        self.answers = Counter("real3d_answers", "Answers by method and status", ["method", "status"], **own)
        self.frames = Counter("real3d_frames", "Frames made", ["purpose"], **own)
        self.videos = Counter("real3d_videos", "Videos that ended", ["state"], **own)
        self.uploaded = Counter("real3d_uploaded_bytes", "Bytes of uploads", **own)
        self.first_frame = Histogram(
            "real3d_first_frame_seconds", "From the first sound of a speech to its first frame", buckets=_WAITS, **own
        )

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A number that is asked for when the metrics are."""
        Gauge(f"real3d_{name}", meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self._registry)
