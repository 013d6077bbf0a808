import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modules.system.assets import Asset
from modules.system.download import fetch
from modules.system.errors import UserError

CONTENT = bytes(range(256)) * 400
BREAK = 20_480  # bytes after which a broken answer ends


class Server:
    """A local server that misbehaves in the ways listed in `script`, one per request, then behaves."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.honours_ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._http.server_port}/model.bin"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        requested = request.headers["Range"]
        self.ranges.append(requested)
        action = self.script.pop(0) if self.script else "whole"
        if action.isdigit():
            request.send_error(int(action))
            return
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and self.honours_ranges else 0
        if start >= len(CONTENT):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.end_headers()
        part = CONTENT[start:] if action == "whole" else CONTENT[start : start + BREAK]
        request.wfile.write(b"x" * len(part) if action == "garbage" else part)
        request.wfile.flush()
        if action == "stall":
            time.sleep(1.5)
        if action != "whole":
            request.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def asset(address: str, sha256: str | None = hashlib.sha256(CONTENT).hexdigest()) -> Asset:
    return Asset(
        name="model.bin",
        what="a model",
        licence="MIT",
        needed_by=("tests",),
        source="https://example.org",
        address=address,
        sha256=sha256,
    )


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path):
    path = fetch(asset(server.address), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["model.bin"]
    fetch(asset(server.address), tmp_path / "new" / "folder")
    assert len(server.ranges) == 1


def test_a_broken_connection_is_resumed_where_it_ended(server: Server, tmp_path: Path):
    server.script = ["break", "break", "503"]
    assert fetch(asset(server.address), tmp_path, pause=0.01).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=20480-", "bytes=40960-", "bytes=40960-"]


def test_a_stalled_server_is_given_up_after_the_timeout_and_asked_again(server: Server, tmp_path: Path):
    server.script = ["stall"]
    started = time.monotonic()
    assert fetch(asset(server.address), tmp_path, timeout=0.3, pause=0.01).read_bytes() == CONTENT
    assert time.monotonic() - started < 1.4
    assert server.ranges[-1] == f"bytes={BREAK}-"


def test_a_server_without_ranges_is_asked_for_the_whole_file(server: Server, tmp_path: Path):
    server.honours_ranges, server.script = False, ["break"]
    assert fetch(asset(server.address), tmp_path, pause=0.01).read_bytes() == CONTENT


def test_a_stopped_fetch_continues_in_the_next_run(server: Server, tmp_path: Path):
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:30_000])
    assert fetch(asset(server.address), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=30000-"]


def test_a_part_that_is_already_whole_is_used(server: Server, tmp_path: Path):
    (tmp_path / "model.bin.part").write_bytes(CONTENT)
    assert fetch(asset(server.address), tmp_path, pause=0.01).read_bytes() == CONTENT


def test_a_server_that_keeps_failing_ends_in_one_line(server: Server, tmp_path: Path):
    server.script = ["500"] * 20
    with pytest.raises(UserError, match="could not be fetched.*continues where it stopped") as caught:
        fetch(asset(server.address), tmp_path, pause=0.001)
    assert len(server.ranges) == 5 and "\n" not in str(caught.value)


def test_an_address_that_is_gone_is_not_asked_again(server: Server, tmp_path: Path):
    server.script = ["404"] * 3
    with pytest.raises(UserError, match="answers 404; look for it at https://example.org"):
        fetch(asset(server.address), tmp_path, pause=0.001)
    assert len(server.ranges) == 1


def test_wrong_content_never_gets_the_name(server: Server, tmp_path: Path):
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(asset(server.address, sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_wrong_checksum_is_replaced(server: Server, tmp_path: Path):
    (tmp_path / "model.bin").write_bytes(b"old edition")
    assert fetch(asset(server.address), tmp_path).read_bytes() == CONTENT


def test_no_connection_is_one_line(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="check the connection"):
        fetch(asset(f"http://127.0.0.1:{port}/model.bin"), tmp_path, pause=0.001)


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written.*--assets"):
        fetch(asset(server.address), tmp_path / "file" / "folder")


def test_what_is_gated_is_explained_instead(tmp_path: Path):
    gated = Asset(
        name="face.mat",
        what="a model",
        licence="research",
        needed_by=("tests",),
        source="https://example.org",
        how="register at https://example.org",
    )
    with pytest.raises(UserError, match="register at https://example.org"):
        fetch(gated, tmp_path)
