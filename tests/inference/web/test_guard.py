"""Who may ask: this computer alone or whoever has the token, no pages of other sites, nobody too often."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.guard import COOKIE, Guard, Rate
from inference.web.metrics import Metrics
from inference.web.refusals import Refusal

TOKEN = "a-token-of-32-letters-or-so-1234"  # noqa: S105 (made up)


def status_of(
    token: str | None,
    host: str = "localhost:8000",
    path: str = "/videos",
    query: str = "",
    kind: str = "http",
    **headers,
) -> int:
    """What the guard answers; 200 if it lets the request through."""

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    sent = []

    async def send(message):
        sent.append(message)

    given = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind, "method": "POST", "path": path, "query_string": query.encode(), "client": ("1.2.3.4", 5),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(Guard(inner, token, 100, Metrics())(scope, None, send))
    if kind == "websocket" and sent[0]["type"] == "websocket.close":
        return sent[0]["code"]
    assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
    return sent[0]["status"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1:8000", "[::1]:8000"])
def test_without_a_token_this_computer_may_ask(host):
    assert status_of(None, host) == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example:8000", "10.0.0.7:8000", "[", "a@localhost@b"]
)
def test_without_a_token_no_other_name_is_answered(host):
    assert status_of(None, host) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://["])
@pytest.mark.parametrize("kind, status", [("http", 403), ("websocket", 1008)])
def test_pages_of_other_sites_may_not_ask(origin, kind, status):
    assert status_of(None, origin=origin, kind=kind) == status


def test_the_own_page_may():
    assert status_of(None, origin="http://localhost:8000") == 200
    assert status_of(TOKEN, "my.host", origin="https://my.host", authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN} "}, 200),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Bearer \xe4\xf6\xfc"}, 401),
        ({"cookie": f"a=b; {COOKIE}={TOKEN}"}, 200),
        ({"cookie": f"{COOKIE}=wrong"}, 401),
        ({"cookie": "=;;\x00;"}, 401),
    ],
)
def test_with_a_token_it_must_be_brought(headers, status):
    assert status_of(TOKEN, "my.host", **headers) == status


def test_a_link_brings_the_token_to_the_page_alone_and_health_needs_none():
    assert status_of(TOKEN, path="/", query=f"token={TOKEN}") == 200
    assert status_of(TOKEN, path="/", query="token=x") == 401
    assert status_of(TOKEN, path="/videos", query=f"token={TOKEN}") == 401
    assert status_of(TOKEN, path="/health") == 200


def test_who_asks_too_often_waits_and_others_do_not():
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    for _ in range(60):
        rate.check("a")
    with pytest.raises(Refusal, match="more than 60 requests a minute") as refusal:
        rate.check("a")
    assert refusal.value.status == 429 and refusal.value.retry
    rate.check("b")
    now[0] = 2.5
    rate.check("a"), rate.check("a")
    with pytest.raises(Refusal):
        rate.check("a")


def test_many_addresses_do_not_fill_the_memory():
    rate = Rate(5)
    for number in range(10_100):
        rate.check(str(number))
    assert len(rate._left) == 10_000
