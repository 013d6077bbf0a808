"""Uploads become files of the store or leave nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.refusals import Refusal
from inference.web.store import Store


@pytest.fixture
def store():
    made = Store(1000)
    yield made
    made.close()
    assert not made._folder.exists()


async def pieces(*parts: bytes | BaseException | float) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, BaseException):
            raise part
        if isinstance(part, float):
            await asyncio.sleep(part)
            continue
        yield part


def receive(store: Store, *parts: bytes | BaseException | float, limit: int = 100, stated: int | None = None):
    return asyncio.run(store.receive(pieces(*parts), limit, 0.2, stated))


def test_an_upload_is_a_file_of_its_own_that_counts_until_it_is_removed(store):
    paths = [receive(store, b"ab", b"", b"c") for _ in range(2)]
    assert paths[0] != paths[1] and all(path.read_bytes() == b"abc" for path in paths) and store.held == 6
    other = store.copy(paths[0])
    store.remove(paths[0])
    assert other.read_bytes() == b"abc" and store.held == 3
    store.remove(other)
    store.remove(other)
    assert store.held == 3 and not other.exists()


@pytest.mark.parametrize(
    "parts, stated, status",
    [
        ((), None, 422),
        ((bytes(60), bytes(60)), None, 413),
        ((bytes(1000),), None, 413),
        ((b"a",), 10**12, 413),
        ((b"a", 5.0, b"b"), None, 408),
    ],
)
def test_what_is_refused_leaves_nothing(store, parts, stated, status):
    with pytest.raises(Refusal) as refusal:
        receive(store, *parts, stated=stated)
    assert refusal.value.status == status and list(store._folder.iterdir()) == [] and store.held == 0


def test_a_sender_who_leaves_leaves_nothing(store):
    with pytest.raises(ConnectionError):
        receive(store, b"abc", ConnectionError())
    assert list(store._folder.iterdir()) == [] and store.held == 0


def test_all_files_together_are_limited(store):
    receive(store, bytes(90))
    result = store.new_path(".mp4")
    result.write_bytes(bytes(850))
    store.count(result)
    with pytest.raises(Refusal, match="as many files as it may") as refusal:
        receive(store, bytes(90))
    assert refusal.value.status == 507 and store.held == 940
    result.write_bytes(bytes(2000))
    with pytest.raises(Refusal):
        store.count(result)
