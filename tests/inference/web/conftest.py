"""A server on a free port of this computer, with the smallest checkpoint."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from inference.pipeline import TalkingPortrait

NEEDED = "pip install -c constraints.txt -r requirements-serve.txt"


@dataclass
class Served:
    """A server that runs.

    Attributes:
        address: localhost:PORT.
        state: its `Server`.
        stop: ends it, as a signal does.
    """

    address: str
    state: object
    stop: Callable[[], None]

    def ask(self, method: str, path: str, **more: object) -> requests.Response:
        return requests.request(method, f"http://{self.address}{path}", timeout=60, **more)

    def portrait(self) -> str:
        answer = self.ask("POST", "/portraits?person=demo")
        assert answer.status_code == 201, answer.text
        return answer.json()["portrait"]

    def media(self, path: Path) -> str:
        answer = self.ask("POST", "/media", data=path.read_bytes())
        assert answer.status_code == 201, answer.text
        return answer.json()["media"]

    def open_session(self, **options: object) -> str:
        """The address of its WebSocket; its portrait is deleted, which a session does not mind."""
        portrait = self.portrait()
        answer = self.ask("POST", "/sessions", json={"portrait": portrait, "options": options})
        assert answer.status_code == 201, answer.text
        assert self.ask("DELETE", f"/portraits/{portrait}").status_code == 204
        return f"ws://{self.address}{answer.json()['socket']}"

    def files(self) -> list[Path]:
        """What lies in its folder."""
        return list(self.state.store._folder.iterdir())


@contextmanager
def served(
    pipeline: TalkingPortrait,
    renderer: str = "planes",
    token: str | None = None,
    keep: Path | None = None,
    **limits: float,
):
    """Run a server in a thread until the `with` ends; limits are those of `ServerLimits`."""
    import uvicorn

    from inference.serve import uvicorn_config
    from inference.web.api import make_app
    from inference.web.config import ServerLimits
    from inference.web.studio import Studio

    chosen = ServerLimits(**{"requests_per_minute": 100_000, **limits})
    app = make_app(Studio(pipeline, renderer, chosen), chosen, token, keep=keep)
    config = uvicorn_config(app, chosen)
    config.port, config.timeout_graceful_shutdown = 0, 2
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    address = f"localhost:{server.servers[0].sockets[0].getsockname()[1]}"

    def stop() -> None:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()

    try:
        yield Served(address, app.state.server, stop)
    finally:
        stop()


@pytest.fixture(scope="module")
def server(pipeline: TalkingPortrait) -> Iterator[Served]:
    with served(pipeline) as running:
        yield running


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


def error_of(answer: requests.Response) -> str:
    """The line of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.text)
    assert set(body) == {"error"} and "\n" not in body["error"]
    return body["error"]
