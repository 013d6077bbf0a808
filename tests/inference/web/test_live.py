"""Live sessions over a real WebSocket: the frames are the session's, whoever breaks the rules hears of it."""

import gc
import io
import json
import struct
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR

import av
import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")

from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from inference.session import Session, SessionConfig
from inference.web.studio import Studio
from tests.inference.conftest import sung
from tests.inference.web.conftest import served, wait_for

HEAR = {"look_ahead": 0.16, "temperature": 1.0, "seed": 3}


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def ask(socket: ClientConnection, kind: str, **more: object) -> None:
    socket.send(json.dumps({"type": kind, **more}))


def until(socket: ClientConnection, kind: str) -> tuple[list[bytes], list[dict]]:
    """Binary messages and news up to the news of that type."""
    frames, news = [], []
    while not news or news[-1]["type"] != kind:
        message = socket.recv(timeout=60)
        if isinstance(message, bytes):
            frames.append(message)
        else:
            news.append(json.loads(message))
    return frames, news


def pictures(messages: list[bytes]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(message[16:]))) for message in messages])


def close_of(socket: ClientConnection) -> tuple[int, str, list[dict]]:
    """Code and reason with which the server closes, and the news before."""
    news = []
    try:
        while True:
            message = socket.recv(timeout=60)
            if isinstance(message, str):
                news.append(json.loads(message))
    except ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason, news


def test_the_frames_are_those_of_a_session_whatever_the_pieces(server, pipeline):
    wave = (sung(12_000) * 32767).astype(np.int16)
    session = pipeline.session(pipeline.procedural_portrait(900007), SessionConfig(**HEAR))
    expected = np.stack(session.push_audio(wave) + session.finish())
    for seed in range(2):
        with connect(server.open_session(frames="png", **HEAR)) as socket:
            assert json.loads(socket.recv()) == {"type": "ready", "size": 64, "frames_per_second": 25}
            for piece in np.split(wave, np.sort(np.random.default_rng(seed).integers(0, len(wave), 9))):
                socket.send(piece.tobytes())
            ask(socket, "finish")
            frames, news = until(socket, "finished")
            assert news == [{"type": "speech", "frame": 0}, {"type": "finished", "frames": len(expected)}]
            assert np.array_equal(pictures(frames), expected)
            headers = [struct.unpack("<4sId", frame[:16]) for frame in frames]
            assert headers == [(b"PNG ", k, k / 25) for k in range(len(expected))]


def test_floats_channels_and_other_rates_are_heard_and_jpeg_is_a_picture(server):
    wave = np.repeat(sung(44_100 // 2)[:, None], 2, axis=1).astype("<f4")
    with connect(server.open_session(rate=44_100, channels=2, samples="float32")) as socket:
        socket.send(wave.tobytes())
        ask(socket, "end")
        frames, news = until(socket, "ended")
        assert close_of(socket)[0] == 1000
    assert len(frames) == 13 == news[-1]["frames"] and frames[0][:4] == b"JPEG"
    assert pictures(frames).shape == (13, 64, 64, 3) and b"Synthetic" in frames[0]


def test_fragments_hold_every_frame_and_the_sound_with_silence_where_nobody_speaks(server):
    with connect(server.open_session(frames="mp4", **HEAR)) as socket:
        ready = json.loads(socket.recv())
        assert ready["mime"].startswith('video/mp4; codecs="avc1.')
        ask(socket, "idle", frames=25)
        socket.send(pcm(sung(16_000)))
        ask(socket, "finish")
        ask(socket, "idle", frames=10)
        ask(socket, "end")
        parts, news = until(socket, "ended")
        assert close_of(socket)[0] == 1000
    data = b"".join(part[16:] for part in parts)
    with av.open(io.BytesIO(data)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25 + 25 + 10 == news[-1]["frames"]
    with av.open(io.BytesIO(data)) as container:
        sound = np.concatenate([block.to_ndarray()[0] for block in container.decode(audio=0)])
    loud = np.abs(sound[: 16_000 * 60 // 25]).reshape(-1, 640).max(axis=1)
    assert loud[:24].max() < 0.01 and loud[28:50].max() > 0.1 and loud[53:].max() < 0.01


def test_an_interruption_drops_what_waits_and_closes_the_mouth(server):
    with connect(server.open_session(**HEAR)) as socket:
        socket.send(pcm(sung(16_000 * 8)))
        until(socket, "speech")
        ask(socket, "interrupt")
        frames, news = until(socket, "interrupted")
        assert len(frames) < 100 < 200 and news[-1]["frames"] >= 7
        ask(socket, "idle", frames=9)
        socket.send(pcm(sung(16_000)))
        ask(socket, "finish")
        _, later = until(socket, "finished")
        assert later[0] == {"type": "speech", "frame": news[-1]["frames"] + 9}
        assert later[-1]["frames"] == news[-1]["frames"] + 9 + 25


def test_to_idle_while_a_speech_is_heard_is_answered_and_nothing_is_lost(server):
    with connect(server.open_session(**HEAR)) as socket:
        socket.send(pcm(sung(8_000)))
        ask(socket, "idle", frames=5)
        ask(socket, "finish")
        frames, news = until(socket, "finished")
    assert [one["type"] for one in news] == ["ready", "speech", "error", "error", "finished"] and len(frames) == 13


@pytest.mark.parametrize(
    "message, words",
    [
        ("hello", "no JSON"),
        ("[" * 50_000, "no JSON"),
        ("[]", "nothing known"),
        ('{"type": "sing"}', "nothing known"),
        ('{"type": ["finish"]}', "nothing known"),
        ('{"type": "idle"}', "whole number"),
        ('{"type": "idle", "frames": 1e9}', "whole number"),
        ('{"type": "idle", "frames": true}', "whole number"),
        (b"\0\0\0", "no whole number of int16 samples"),
    ],
)
def test_what_is_no_message_is_answered_and_closes_with_its_code(server, message, words):
    with connect(server.open_session()) as socket:
        socket.send(message)
        code, reason, news = close_of(socket)
    assert code == 1007 and words in reason and words in news[-1]["error"] and news[-1]["type"] == "error"
    wait_for(lambda: len(server.state.sessions) == 0)


def test_floats_that_are_no_numbers_and_messages_that_are_too_long_close_too(server):
    with connect(server.open_session(samples="float32")) as socket:
        socket.send(np.full(4, np.nan, "<f4").tobytes())
        assert close_of(socket)[0] == 1007
    with connect(server.open_session()) as socket:
        socket.send(bytes(2**20 + 2))
        assert close_of(socket)[0] == 1009
    wait_for(lambda: len(server.state.sessions) == 0)


def test_only_one_socket_speaks_to_a_session_and_it_ends_with_it(server):
    address = server.open_session()
    with connect(address) as first:
        first.recv()
        with pytest.raises(InvalidStatus) as refused:
            connect(address)
        assert refused.value.response.status_code == 409 and b"another WebSocket" in refused.value.response.body
    wait_for(lambda: len(server.state.sessions) == 0)
    with pytest.raises(InvalidStatus) as gone:
        connect(address)
    assert gone.value.response.status_code == 404


def test_who_leaves_in_the_middle_leaves_nothing_and_disturbs_nobody(server):
    with connect(server.open_session(**HEAR)) as staying:
        for _ in range(3):
            with connect(server.open_session(**HEAR)) as socket:
                socket.send(pcm(sung(16_000 * 4)))
                socket.socket.shutdown(SHUT_RDWR)  # without a word
        staying.send(pcm(sung(8_000)))
        ask(staying, "end")
        frames, _ = until(staying, "ended")
    assert len(frames) == 13
    wait_for(lambda: len(server.state.sessions) == 0 and server.state.waiting() == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("way", ["leave", "end", "nonsense"])
def test_a_conversation_that_is_over_lets_go_of_its_head_and_its_encoders_at_once(server, monkeypatch, way):
    """A head is 20 MB and more in a few objects, for which the garbage collector would come late by itself."""
    made, make = [], Studio.session

    def noted(studio, *arguments):
        session = make(studio, *arguments)
        made.append(weakref.ref(session))
        return session

    def talk() -> int:
        with connect(server.open_session(frames="mp4", **HEAR)) as socket:
            socket.send(pcm(sung(8_000)))
            ask(socket, "finish")
            until(socket, "finished")
            if way != "leave":
                socket.send("nonsense" if way == "nonsense" else json.dumps({"type": "end"}))
                close_of(socket)
        wait_for(lambda: made[-1]() is None)
        time.sleep(0.2)  # for the client's own thread to end
        return len(list(Path("/proc/self/task").iterdir()))

    monkeypatch.setattr(Studio, "session", noted)
    gc.disable()
    try:
        assert talk() == talk()
    finally:
        gc.enable()


def test_a_session_that_was_deleted_closes(server):
    address = server.open_session()
    with connect(address) as socket:
        socket.recv()
        assert server.ask("DELETE", "/" + "/".join(address.split("/")[3:5])).status_code == 204
        socket.send(pcm(sung(800)))
        code, reason, _ = close_of(socket)
    assert code == 1008 and "no such session" in reason


@pytest.fixture
def noisy(monkeypatch):
    """Frames that cannot be compressed, so that few of them fill a line."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    real = Studio.session

    def session(*arguments: object) -> Session:
        made = real(*arguments)
        made._paint = lambda motion, part: [noise] * (part.stop - part.start)
        return made

    monkeypatch.setattr(Studio, "session", session)


def test_slow_readers_silent_speakers_and_long_sessions_are_closed_with_a_reason(pipeline):
    with served(pipeline, slow_seconds=0.5, idle_seconds=1.0, session_seconds=1.5, queued_seconds=0.3) as server:
        with connect(server.open_session()) as socket:
            code, reason, _ = close_of(socket)
            assert code == 1008 and reason == "nothing came for 1 seconds"
        with connect(server.open_session()) as socket:
            socket.send(pcm(sung(16_000 * 4)))
            code, reason, _ = close_of(socket)
            assert code == 1008 and reason.startswith("a session has at most 1.5 seconds")


def test_who_does_not_read_is_closed(pipeline, noisy):
    with served(pipeline, slow_seconds=0.5) as server:
        with connect(server.open_session(frames="png"), max_queue=1, close_timeout=1) as socket:
            ask(socket, "idle", frames=1500)
            wait_for(lambda: len(server.state.sessions) == 0, 60)
        assert server.state.metrics.frames.labels("live")._value.get() < 100


def test_while_a_reader_is_slow_nothing_piles_up(pipeline, noisy):
    with served(pipeline, queued_seconds=0.3) as server:
        with connect(server.open_session(frames="png"), max_queue=1, max_size=None) as socket:
            ask(socket, "idle", frames=150)
            made = server.state.metrics.frames.labels("live")._value.get
            last = -1.0
            while made() != last:  # until the line is full
                last = made()
                time.sleep(0.5)
            assert 0 < last < 100
            frames = [socket.recv(timeout=60) for _ in range(151)]
            assert len(frames) == 151  # ready, and all of them


def test_a_server_that_stops_says_so(pipeline):
    with served(pipeline) as server:
        with connect(server.open_session()) as socket:
            socket.recv()
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            code, _, _ = close_of(socket)
            stopping.join()
    assert code == 1012


def test_without_the_token_no_socket_is_opened(pipeline):
    token = "a-token-of-some-length"  # noqa: S105 (made up)
    with served(pipeline, token=token) as server:
        bearer = {"Authorization": f"Bearer {token}"}
        portrait = server.ask("POST", "/portraits?person=demo", headers=bearer).json()["portrait"]
        session = server.ask("POST", "/sessions", json={"portrait": portrait}, headers=bearer).json()["socket"]
        for headers in ({}, {"Authorization": "Bearer wrong"}, {**bearer, "Origin": "http://evil.example"}):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://{server.address}{session}", additional_headers=headers)
            assert refused.value.response.status_code == (403 if "Origin" in headers else 401)
        with connect(f"ws://{server.address}{session}", additional_headers=bearer) as socket:
            assert "ready" in socket.recv()


def random_message(random: np.random.Generator) -> str | bytes:
    """Mostly of the protocol, sometimes of none."""
    kind = random.integers(0, 10)
    if kind < 5:
        return random.bytes(2 * int(random.integers(0, 3000)))
    if kind < 9:
        return json.dumps({"type": ("finish", "interrupt", "idle", "idle")[kind - 5], "frames": 3})
    return (b"odd", "garbage", '{"type": 5}', json.dumps({"type": "end"}))[random.integers(0, 4)]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_sent_and_whenever_it_stops_nothing_is_left_and_the_server_lives(server, seed):
    random = np.random.default_rng(seed)
    with connect(server.open_session(frames=("jpeg", "mp4")[seed % 2], look_ahead=0.0)) as socket:
        with suppress(ConnectionClosed):
            for _ in range(int(random.integers(1, 30))):
                socket.send(random_message(random))
                if random.random() < 0.3:
                    with suppress(TimeoutError):
                        socket.recv(timeout=0.02)
        if seed % 3 == 0:
            with suppress(OSError):
                socket.socket.shutdown(SHUT_RDWR)
    wait_for(lambda: len(server.state.sessions) == 0 and server.state.waiting() == 0)
    assert server.ask("GET", "/health").json()["status"] == "ok"
