"""What can be asked of the server: its routes. docs/live.md describes them."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from inference.web.config import ServerLimits
from inference.web.guard import HEALTH, Guard, refuse
from inference.web.lane import Lane
from inference.web.live import Conversation, LiveSession
from inference.web.messages import LiveOptions
from inference.web.metrics import Metrics
from inference.web.page import page_routes
from inference.web.refusals import Refusal, refusal_of
from inference.web.shelf import Shelf
from inference.web.store import Store
from inference.web.studio import Media, Painter, Studio, VideoOptions
from inference.web.videos import Videos, VideoState
from modules.system.config import from_dict, nearest, to_dict

_UNSTORED = {"Cache-Control": "no-store"}  # by the browser either
_JSON_BYTES = 65_536
_SWEEP = 15.0  # seconds between two looks for what is idle
_PICTURE_QUALITY = 90
_MOTIONS = {"json": "application/json", "csv": "text/csv", "npz": "application/octet-stream"}
Made = TypeVar("Made")
Handler = Callable[["Server", Request], Awaitable[Response]]


@dataclass
class _Portrait:
    painter: Painter
    picture: bytes  # JPEG of what is drawn


class Server:
    """The state behind the routes; make one in the event loop that serves."""

    def __init__(
        self, studio: Studio, limits: ServerLimits, metrics: Metrics, threads: int = 1, keep: Path | None = None
    ) -> None:
        """Threads and `keep` as of `make_app`."""
        self.studio, self.limits, self.metrics = studio, limits, metrics
        self.store = Store(limits.stored_bytes)
        self.live_lane = Lane("live", threads, limits.waiting)
        self.lane = Lane("videos", threads, limits.waiting)
        held = (limits.idle_seconds,)
        self.portraits: Shelf[_Portrait] = Shelf("portrait", limits.portraits, *held)
        self.media: Shelf[Media] = Shelf("upload", limits.media, *held, lambda media: self.store.remove(media.path))
        self.sessions: Shelf[LiveSession] = Shelf("session", limits.sessions, *held)
        self.videos = Videos(studio, self.store, self.lane, limits, self.metrics, keep)
        self._watch()

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("sessions_open", "Live sessions that are open", lambda: len(self.sessions))
        watch("portraits_held", "Portraits in memory", lambda: len(self.portraits))
        watch("stored_bytes", "Bytes of uploads and results", lambda: self.store.held)
        watch("videos_to_do", "Videos that wait or are being made", self.videos_to_do)
        watch("work_waiting", "Pieces of work that wait or are being done", self.waiting)

    def videos_to_do(self) -> int:
        """Videos that wait or are being made."""
        return sum(job.state in (VideoState.WAITING, VideoState.RUNNING) for job in self.videos.shelf)

    def waiting(self) -> int:
        """Pieces of work in both lanes."""
        return self.lane.waiting + self.live_lane.waiting

    async def sweep(self) -> None:
        """Look for what is idle, again and again."""
        while True:
            await asyncio.sleep(min(_SWEEP, self.limits.idle_seconds))
            for shelf in (self.portraits, self.media, self.sessions, self.videos.shelf):
                shelf.sweep()

    async def close(self) -> None:
        """Stop the work and delete all files."""
        await self.videos.close()
        for shelf in (self.sessions, self.media, self.portraits):
            shelf.clear()
        for lane in (self.lane, self.live_lane):
            await asyncio.to_thread(lane.close)
        self.store.close()

    async def upload(self, request: Request, limit: int) -> Path:
        """The body of a request as a file; its sender may leave, and then a ClientDisconnect tells."""
        self.lane.admit()
        stated = request.headers.get("content-length", "")
        path = await self.store.receive(
            request.stream(), limit, self.limits.upload_seconds, int(stated) if stated.isdecimal() else None
        )
        self.metrics.uploaded.inc(path.stat().st_size)
        return path

    async def for_sender(self, request: Request, make: Callable[[], Made]) -> Made:
        """Work in the lane for one who still waits for it."""
        if await request.is_disconnected():
            raise ClientDisconnect
        made = await self.lane.run(make)
        if await request.is_disconnected():
            raise ClientDisconnect
        return made


# ---- portraits and media


async def make_portrait(server: Server, request: Request) -> Response:
    """POST /portraits, the body a photo; ?person=demo without one."""
    server.portraits.admit()
    face, anyway = _whole(request, "face"), _choice(request, "anyway", ("yes", "no")) == "yes"
    demo = _choice(request, "person", ("demo",))
    photo = None if demo else await server.upload(request, server.limits.photo_bytes)

    def make() -> _Portrait:
        painter = server.studio.portrait(photo, face, anyway)
        file = io.BytesIO()
        Image.fromarray(server.studio.picture(painter)).save(file, "JPEG", quality=_PICTURE_QUALITY)
        return _Portrait(painter, file.getvalue())

    try:
        name = server.portraits.add(await server.for_sender(request, make))
    finally:
        if photo is not None:
            server.store.remove(photo)
    return JSONResponse({"portrait": name, "size": server.studio.size}, 201)


async def show_portrait(server: Server, request: Request) -> Response:
    """GET /portraits/NAME/picture: the square of the photo that is drawn."""
    held = server.portraits.get(request.path_params["name"])
    return Response(held.picture, media_type="image/jpeg", headers=_UNSTORED)


async def take_media(server: Server, request: Request) -> Response:
    """POST /media, the body a sound or video file."""
    server.media.admit()
    path = await server.upload(request, server.limits.media_bytes)
    try:
        media = await server.for_sender(request, partial(server.studio.media, path))
    except BaseException:
        server.store.remove(path)
        raise
    return JSONResponse({"media": server.media.add(media)} | media.report(), 201)


async def tell_media(server: Server, request: Request) -> Response:
    """GET /media/NAME: what it holds."""
    return JSONResponse(server.media.get(request.path_params["name"]).report())


# ---- videos


async def make_video(server: Server, request: Request) -> Response:
    """POST /videos: {"portrait": NAME, "speech": NAME or "driving": NAME, "options": {...}}"""
    asked = await _object(request, {"portrait", "speech", "driving", "options"})
    painter = server.portraits.get(_name(asked, "portrait")).painter
    options = from_dict(VideoOptions, _mapping(asked, "options"))
    if "speech" in asked and "driving" in asked:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "speech and driving are both given; leave one of them out")
    speech = server.media.get(_name(asked, "speech")) if "speech" in asked else None
    driving = server.media.get(_name(asked, "driving")) if "driving" in asked else None
    if speech is not None and not speech.has_sound:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "the upload has no sound to speak; send it as driving, or use another"
        )
    if driving is not None and not driving.has_pictures:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "the upload has no moving pictures to follow; send it as speech, or use another",
        )
    name = server.videos.start(painter, speech, driving, options)
    return JSONResponse({"video": name}, 202)


async def tell_video(server: Server, request: Request) -> Response:
    """GET /videos/NAME: how far it is."""
    return JSONResponse(server.videos.shelf.get(request.path_params["name"]).report())


async def give_video(server: Server, request: Request) -> Response:
    """GET /videos/NAME/file: the .mp4."""
    job = server.videos.finished(request.path_params["name"])
    inline = {"filename": "talk.mp4", "content_disposition_type": "inline"}
    return FileResponse(job.output, media_type="video/mp4", headers=_UNSTORED, **inline)


async def give_layers(server: Server, request: Request) -> Response:
    """GET /videos/NAME/layers.zip: what the frames are made of, if the option layers asked for it."""
    job = server.videos.finished(request.path_params["name"])
    if job.layers is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "the video was made without layers; make it with the option layers")
    return FileResponse(job.layers, media_type="application/zip", headers=_UNSTORED, filename="layers.zip")


async def give_motion(server: Server, request: Request) -> Response:
    """GET /videos/NAME/motion.json, .csv (ARKit curves) or .npz: how it moves."""
    job, kind = server.videos.finished(request.path_params["name"]), request.path_params["kind"]
    if kind not in _MOTIONS:
        raise Refusal(HTTPStatus.NOT_FOUND, "a motion is given as motion.json, motion.csv or motion.npz")
    path = server.store.new_path(f".{kind}")

    def write() -> bytes:
        try:
            job.making.motion.save(path)
            return path.read_bytes()
        finally:
            server.store.remove(path)

    headers = {"Content-Disposition": f'attachment; filename="motion.{kind}"'} | _UNSTORED
    return Response(await server.lane.run(write), 200, headers, _MOTIONS[kind])


# ---- live sessions


async def open_session(server: Server, request: Request) -> Response:
    """POST /sessions: {"portrait": NAME, "options": {...}}; the WebSocket is at the address that comes back."""
    asked = await _object(request, {"portrait", "options"})
    painter = server.portraits.get(_name(asked, "portrait")).painter
    options = from_dict(LiveOptions, _mapping(asked, "options"))
    if options.look_ahead > server.limits.look_ahead:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"look_ahead is {options.look_ahead}; give at most {server.limits.look_ahead:g} seconds",
        )
    name = server.sessions.add(LiveSession(painter, options))
    return JSONResponse({"session": name, "socket": f"/sessions/{name}/socket"}, 201)


async def speak_live(socket: WebSocket) -> None:
    """The WebSocket of a session."""
    server: Server = socket.app.state.server
    name = socket.path_params["name"]
    try:
        live = server.sessions.get(name)
        if live.connected:
            raise Refusal(HTTPStatus.CONFLICT, "another WebSocket speaks to this session; open a session of your own")
    except Refusal as refusal:
        await refuse(refusal, socket.scope, socket.receive, socket.send)
        return
    live.connected = True
    try:
        await socket.accept()
        touch = partial(server.sessions.get, name)
        await Conversation(socket, server.live_lane, server.limits, server.metrics, touch).hold(server.studio, live)
    finally:
        with suppress(Refusal):
            server.sessions.drop(name)


# ---- about the server


async def tell_health(server: Server, request: Request) -> Response:
    """GET /health: that it lives, and how busy it is."""
    return JSONResponse({"status": "ok", "work_waiting": server.waiting(), "sessions": len(server.sessions)})


async def tell_limits(server: Server, request: Request) -> Response:
    """GET /limits: what is allowed, as of `ServerLimits`."""
    return JSONResponse(to_dict(server.limits))


async def tell_metrics(server: Server, request: Request) -> Response:
    """GET /metrics, for Prometheus."""
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _unknown(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: addresses and methods that there are not."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    what = (
        "this address does not exist here"
        if status == HTTPStatus.NOT_FOUND
        else f"{request.method} is not for this address"
    )
    return Refusal(status, f"{what}; docs/live.md lists what does").response()


async def _object(request: Request, known: set[str]) -> dict[str, object]:
    """The body of a request as a JSON object with these keys.

    Raises:
        Refusal: it is anything else.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _JSON_BYTES:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the request is longer than {_JSON_BYTES} bytes; files go to /portraits and /media",
            )
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is no JSON") from error
    if not isinstance(asked, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is no JSON object")
    for key in asked.keys() - known:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"unknown key {key[:40]!r}{nearest(key, known)}")
    return asked


def _name(asked: Mapping[str, object], key: str) -> str:
    name = asked.get(key)
    if not isinstance(name, str):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{key} must be a name that this server gave")
    return name


def _mapping(asked: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = asked.get(key, {})
    if not isinstance(value, dict):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{key} must be a JSON object")
    return value


def _whole(request: Request, key: str) -> int | None:
    text = request.query_params.get(key)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{key} must be a whole number from 0 on")
    return int(text)


def _choice(request: Request, key: str, choices: tuple[str, ...]) -> str | None:
    text = request.query_params.get(key)
    if text is not None and text not in choices:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{key} must be {' or '.join(choices)}")
    return text


def _drop(shelf: str) -> Handler:
    async def drop(server: Server, request: Request) -> Response:
        held = server.videos.shelf if shelf == "videos" else getattr(server, shelf)
        held.drop(request.path_params["name"])
        return Response(status_code=204)

    return drop


def _route(path: str, handler: Handler, method: str = "GET") -> Route:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request.app.state.server, request)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
        except Exception as error:
            return refusal_of(error).response()

    return Route(path, answer, methods=[method])


def make_app(
    studio: Studio,
    limits: ServerLimits | None = None,
    token: str | None = None,
    threads: int = 1,
    keep: Path | None = None,
) -> Starlette:
    """The application of ASGI.

    Args:
        token: that each request must bring; None: the server is for this computer alone.
        threads: of torch, for each of the two lanes (live sessions; all else).
        keep: a folder where finished videos are also left.
    """
    limits, metrics = limits or ServerLimits(), Metrics()

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        app.state.server = server = Server(studio, limits, metrics, threads, keep)
        sweeping = asyncio.create_task(server.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await server.close()

    routes = [
        *page_routes(),
        _route(HEALTH, tell_health),
        _route("/limits", tell_limits),
        _route("/metrics", tell_metrics),
        _route("/portraits", make_portrait, "POST"),
        _route("/portraits/{name}/picture", show_portrait),
        _route("/portraits/{name}", _drop("portraits"), "DELETE"),
        _route("/media", take_media, "POST"),
        _route("/media/{name}", tell_media),
        _route("/media/{name}", _drop("media"), "DELETE"),
        _route("/videos", make_video, "POST"),
        _route("/videos/{name}", tell_video),
        _route("/videos/{name}", _drop("videos"), "DELETE"),
        _route("/videos/{name}/file", give_video),
        _route("/videos/{name}/layers.zip", give_layers),
        _route("/videos/{name}/motion.{kind}", give_motion),
        _route("/sessions", open_session, "POST"),
        _route("/sessions/{name}", _drop("sessions"), "DELETE"),
        WebSocketRoute("/sessions/{name}/socket", speak_live),
    ]
    guard = Middleware(Guard, token=token, per_minute=limits.requests_per_minute, metrics=metrics)
    return Starlette(routes=routes, middleware=[guard], lifespan=life, exception_handlers={HTTPException: _unknown})
