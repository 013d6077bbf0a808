"""A live session over a WebSocket: what comes is heard in its order, what is made is sent as it is made."""

import asyncio
import gc
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from inference.session import Session
from inference.web.config import ServerLimits
from inference.web.lane import Lane
from inference.web.messages import (
    JPEG,
    MP4,
    PNG,
    Control,
    LiveOptions,
    Unreadable,
    encoded,
    header,
    read_control,
    read_sound,
)
from inference.web.metrics import Metrics
from inference.web.refusals import Refusal, refusal_of
from inference.web.spoken_sound import SpokenSound
from inference.web.studio import Painter, Studio
from modules.media.fragment_writer import FragmentWriter
from modules.media.rates import FRAME_RATE

_PIECE = 0.1  # seconds of sound that are heard at once, so that an interruption does not wait for more
_IDLE_FRAMES = 4  # that are drawn at once
_CLOSING = 5.0  # seconds that saying good-bye may take
_REASON = 120  # bytes of the reason of a close
# Codes of RFC 6455 that say why the server closes.
NORMAL, UNREADABLE, BREACH, INTERNAL, TRY_LATER = 1000, 1007, 1008, 1011, 1013
_CODES = {HTTPStatus.INTERNAL_SERVER_ERROR: INTERNAL, HTTPStatus.SERVICE_UNAVAILABLE: TRY_LATER}


@dataclass
class LiveSession:
    """A session that was opened and may be spoken to by one WebSocket."""

    painter: Painter
    options: LiveOptions
    connected: bool = False


class Conversation:
    """One WebSocket and the session behind it."""

    def __init__(
        self, socket: WebSocket, lane: Lane, limits: ServerLimits, metrics: Metrics, touch: Callable[[], object]
    ) -> None:
        """`touch`: says that the session is in use; its Refusal ends the conversation."""
        self._socket, self._lane, self._limits, self._metrics, self._touch = socket, lane, limits, metrics, touch
        self._inbox: asyncio.Queue[np.ndarray | Control] = asyncio.Queue(max(1, round(limits.queued_seconds / _PIECE)))
        self._heard_since: float | None = None  # when the first sound of a speech came
        self._answered = False  # whether a frame of it has been sent
        self._speaking = self._working = False

    async def hold(self, studio: Studio, live: LiveSession) -> None:
        """Talk until one side ends it; the socket is closed with a code that says why."""
        self._writer: FragmentWriter | None = None
        try:
            await self._hold(studio, live)
        finally:
            self._writer = None
            gc.collect()  # a millisecond; PyAV's containers hold their encoders, with threads, in a cycle

    async def _hold(self, studio: Studio, live: LiveSession) -> None:
        self._options, self._sound = live.options, SpokenSound(live.options.rate)
        code, reason = NORMAL, ""
        try:
            self._session: Session = await self._lane.run(
                studio.session, live.painter, live.options, live.options.background
            )
            ready: dict[str, object] = {"type": "ready", "size": studio.size, "frames_per_second": FRAME_RATE}
            if live.options.frames == "mp4":
                self._writer = await self._lane.run(FragmentWriter, (studio.size, studio.size), live.options.rate)
                ready["mime"] = self._writer.mime
            await self._say(ready)
            await self._talk()
        except WebSocketDisconnect:
            return
        except Unreadable as error:
            code, reason = UNREADABLE, str(error)
        except Exception as error:
            code, reason = _ending(error)
        with suppress(Exception):  # the other side may be gone
            async with asyncio.timeout(_CLOSING):
                if reason:
                    await self._socket.send_text(json.dumps({"type": "error", "error": reason}))
                await self._socket.close(code, reason.encode()[:_REASON].decode(errors="ignore"))

    async def _talk(self) -> None:
        """Read and answer side by side until either ends."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        try:
            for task in done:
                task.result()
        finally:  # else the error would hold this frame and the frame the error, and with them the head, for long
            del task, tasks, done

    async def _read(self) -> None:
        """Put what comes into the inbox; while that is full nothing is read, and the sender has to wait."""
        size = max(1, round(_PIECE * self._options.rate))
        while True:
            message = await self._next_message()
            self._touch()
            if message.get("text") is not None:
                await self._take(read_control(message["text"]))
                continue
            sound = read_sound(message["bytes"], self._options)
            if self._heard_since is None and len(sound):
                self._heard_since = time.monotonic()
            for start in range(0, len(sound), size):
                await self._inbox.put(sound[start : start + size])

    async def _next_message(self) -> dict:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_seconds):
                    message = await self._socket.receive()
                break
            except TimeoutError as error:
                if not self._working:
                    raise Refusal(
                        HTTPStatus.REQUEST_TIMEOUT, f"nothing came for {self._limits.idle_seconds:g} seconds"
                    ) from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NORMAL))
        return message

    async def _take(self, control: Control) -> None:
        if control.kind == "interrupt":  # what waits to be heard is dropped at once
            while not self._inbox.empty():
                self._inbox.get_nowait()
        if control.kind != "idle":
            await self._inbox.put(control)
            return
        for start in range(0, control.frames, _IDLE_FRAMES):
            await self._inbox.put(Control("idle", min(_IDLE_FRAMES, control.frames - start)))

    async def _answer(self) -> None:
        """Make of the inbox, in its order, what it asks for, and send it."""
        while True:
            self._working = not self._inbox.empty()
            item = await self._inbox.get()
            self._working = True
            if isinstance(item, np.ndarray):
                await self._hear(item)
            elif await self._obey(item):
                return
            if self._session.drawn > self._limits.session_seconds * FRAME_RATE:
                raise Refusal(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"a session has at most {self._limits.session_seconds:g} seconds; open another",
                )

    async def _hear(self, sound: np.ndarray) -> None:
        if not self._speaking:
            self._speaking = True
            await self._say({"type": "speech", "frame": self._session.drawn})
        self._sound.hear(sound)
        await self._send(lambda: self._session.push_audio(sound, self._options.rate))

    async def _obey(self, control: Control) -> bool:
        """Do it and say so; whether the conversation is over."""
        if control.kind == "idle":
            if self._speaking:
                await self._say({"type": "error", "error": "a speech is being heard; finish or interrupt it first"})
                return False
            await self._send(lambda: self._session.idle(control.frames))
            return False
        if control.kind == "interrupt":
            self._sound.forget()
            await self._send(self._session.interrupt)
        else:
            await self._send(self._session.finish)
            self._sound.forget()
        self._speaking, self._heard_since, self._answered = False, None, False
        if control.kind == "end" and self._writer is not None:
            rest = await self._lane.run(self._writer.finish)
            await self._send_bytes(header(MP4, self._session.drawn) + rest)
        told = {"finish": "finished", "interrupt": "interrupted", "end": "ended"}[control.kind]
        await self._say({"type": told, "frames": self._session.drawn})
        return control.kind == "end"

    async def _send(self, make: Callable[[], list[np.ndarray]]) -> None:
        """Make frames in the lane and send them."""
        first = self._session.drawn
        messages = await self._lane.run(self._made, make, first)
        for message in messages:
            await self._send_bytes(message)
        made = self._session.drawn - first
        self._metrics.frames.labels("live").inc(made)
        if made and self._heard_since is not None and not self._answered:
            self._metrics.first_frame.observe(time.monotonic() - self._heard_since)
            self._answered = True

    def _made(self, make: Callable[[], list[np.ndarray]], first: int) -> list[bytes]:
        """Frames as messages; in the lane."""
        frames = make()
        if self._writer is not None:
            data = self._writer.write(frames, self._sound.of_next(len(frames)))
            return [header(MP4, first) + data] if data else []
        kind = JPEG if self._options.frames == "jpeg" else PNG
        return [header(kind, first + number) + encoded(frame, kind) for number, frame in enumerate(frames)]

    async def _say(self, news: dict[str, object]) -> None:
        await self._in_time(self._socket.send_text(json.dumps(news)))

    async def _send_bytes(self, message: bytes) -> None:
        await self._in_time(self._socket.send_bytes(message))

    async def _in_time(self, sending: object) -> None:
        try:
            async with asyncio.timeout(self._limits.slow_seconds):
                await sending
        except TimeoutError as error:
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                f"a message was not read for {self._limits.slow_seconds:g} seconds; read faster",
            ) from error


def _ending(error: Exception) -> tuple[int, str]:
    """The code and the reason with which a conversation is closed after an error."""
    refusal = refusal_of(error)
    return _CODES.get(refusal.status, BREACH), str(refusal)
