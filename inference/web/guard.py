"""Who may ask, and how often: looked at before anything else of a request."""

import hmac
import time
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.web.metrics import Metrics
from inference.web.refusals import Refusal

COOKIE = "real3d_token"
HEALTH = "/health"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_ADDRESSES = 10_000
_MINUTE = 60.0
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class Rate:
    """How often each address has asked: a bucket of a minute's requests, which fills up again as time passes."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._left: dict[str, tuple[float, float]] = {}  # requests, and when that was so; the latest last

    def check(self, address: str) -> None:
        """Raises: Refusal: it has asked too often."""
        now = self._clock()
        left, then = self._left.pop(address, (float(self._most), now))
        left = min(self._most, left + (now - then) * self._most / _MINUTE)
        self._left[address] = max(left - 1, 0.0), now
        if len(self._left) > _MOST_ADDRESSES:
            del self._left[next(iter(self._left))]
        if left < 1:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"more than {self._most} requests a minute; ask less often", 5)


class Guard:
    """Stands before an application and lets through what may come.

    Without a token the server is for this computer alone: requests must be addressed to it by a name that only this
    computer has, so that no page of another site can have a browser here ask (DNS rebinding). With one, each request
    must bring it, as a bearer or in the cookie that the page sets. What a browser sends from another page is refused
    in both cases.
    """

    def __init__(self, app: ASGIApp, token: str | None, per_minute: int, metrics: Metrics) -> None:
        self._app, self._token, self._rate, self._metrics = app, token, Rate(per_minute), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def answering(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = [*message.get("headers", []), *_HEADERS]
                self._metrics.answers.labels(scope.get("method", "WEBSOCKET"), str(message["status"])).inc()
            elif message["type"] == "websocket.accept":
                self._metrics.answers.labels("WEBSOCKET", "101").inc()
            await send(message)

        try:
            self.check(scope)
        except Refusal as refusal:
            await refuse(refusal, scope, receive, answering)
            return
        await self._app(scope, receive, answering)

    def check(self, scope: Scope) -> None:
        """Raises: Refusal: the request may not come in."""
        headers = Headers(scope=scope)
        if scope["path"] != HEALTH:
            self._rate.check((scope.get("client") or ("", 0))[0])
        host = headers.get("host", "")
        if self._token is None and _names(f"//{host}")[0] not in _LOOPBACK:
            raise Refusal(HTTPStatus.FORBIDDEN, "this server answers under the name localhost alone")
        origin = headers.get("origin")
        if origin is not None and _names(origin)[1] != host.lower():
            raise Refusal(HTTPStatus.FORBIDDEN, "this comes from a page of another site")
        if self._token is not None and scope["path"] != HEALTH and not self._knows(scope, headers):
            advice = "open the address that the server printed, or send Authorization: Bearer TOKEN"
            raise Refusal(HTTPStatus.UNAUTHORIZED, f"the token is missing or wrong; {advice}")

    def _knows(self, scope: Scope, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        given = [bearer.strip()] if kind.lower() == "bearer" else []
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given += [] if cookie is None else [cookie.value]
        given += link_tokens(scope) if scope["path"] == "/" else []
        return any([is_token(text, self._token) for text in given])


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket that asks to be opened, with a refusal."""
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await refusal.response()(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:100]})


def link_tokens(scope: Scope) -> list[str]:
    """Tokens in the address of a request: /?token=..."""
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])


def is_token(text: str, token: str) -> bool:
    """Whether they are the same, in a time that does not say where they differ."""
    return hmac.compare_digest(text.encode(), token.encode())


def _names(address: str) -> tuple[str | None, str | None]:
    """The host of an address alone, and with its port; None for what is no address."""
    try:
        parts = urlsplit(address)
        return parts.hostname, parts.netloc.lower()
    except ValueError:
        return None, None
