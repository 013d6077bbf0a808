"""Object stores for tests: moto's S3 and a folder over HTTP, on this machine, which can be told to fail."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

BUCKET = "clips"


@dataclass
class Requests:
    """What was asked of a store; each `fail_every`-th request fails, by an error or, with `cut`, half an answer."""

    fail_every: int = 0
    cut: bool = False
    seen: list[str] = field(default_factory=list)
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def over(self, application: Callable) -> Callable:
        """The application with these failures."""

        def answer(environ: dict[str, Any], start_response: Callable) -> Any:
            with self.lock:
                self.seen.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ.get('HTTP_RANGE', '')}")
                fails = self.fail_every and len(self.seen) % self.fail_every == 0
                self.failed += bool(fails)
            if fails and not self.cut:
                start_response("503 Service Unavailable", [("Content-Length", "0")])
                return [b""]
            content = application(environ, start_response)
            if fails:  # the answer ends in its middle, and the connection with it
                whole = b"".join(content)
                environ["werkzeug.socket"].settimeout(1)
                return [whole[: len(whole) // 2]]
            return content

        return answer


@contextmanager
def served(application: Callable) -> Iterator[str]:
    """A WSGI application on this machine; its address."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def s3_store(monkeypatch: pytest.MonkeyPatch, requests: Requests) -> Iterator[str]:
    """An empty bucket of moto's server, known by the usual variables; its address."""
    import boto3
    import s3fs
    from moto.server import DomainDispatcherApplication, create_backend_app

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    with served(requests.over(DomainDispatcherApplication(create_backend_app))) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()  # of another test's server
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/own"
        for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])
        client.delete_bucket(Bucket=BUCKET)


def put_folder(folder: Path, address: str) -> None:
    """Put the files of a folder into a bucket, by another library than that which is tested."""
    import boto3

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    for path in folder.iterdir():
        boto3.client("s3").upload_file(str(path), bucket, f"{prefix}/{path.name}")
