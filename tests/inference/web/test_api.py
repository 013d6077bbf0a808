"""The routes over a real server: uploads, videos, what is refused and how, and what is left behind."""

import io
import json
import os
import signal
import socket
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import requests

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")

from PIL import Image

from inference.motion import Motion
from inference.run import main as run
from tests.inference.web.conftest import Served, error_of, served, wait_for


def make(server: Served, **asked: object) -> str:
    answer = server.ask("POST", "/videos", json={"portrait": server.portrait(), **asked})
    assert answer.status_code == 202, answer.text
    return f"/videos/{answer.json()['video']}"


def ended(server: Served, video: str) -> dict:
    states = []

    def is_over() -> bool:
        states.append(server.ask("GET", video).json())
        return states[-1]["state"] not in ("waiting", "running")

    wait_for(is_over, 60)
    return states[-1]


def frames_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_video_is_that_of_the_command_and_so_is_its_motion(server, speech, checkpoint, tmp_path):
    options = {"seed": 4, "temperature": 1.0, "pose": "still", "blink": "none", "background": "#204060"}
    video = make(server, speech=server.media(speech), options=options)
    assert ended(server, video) == {"state": "done", "frames": 11, "total": 11}
    given = server.ask("GET", f"{video}/file")
    assert given.headers["content-type"] == "video/mp4" and given.headers["x-content-type-options"] == "nosniff"
    flags = ["--checkpoint", checkpoint, "--audio", speech, "--output", tmp_path / "a.mp4", "--seed", "4"]
    flags += ["--temperature", "1.0", "--pose", "still", "--blink", "none", "--background", "#204060"]
    assert run([str(flag) for flag in flags]) == 0
    assert np.array_equal(frames_of(given.content), frames_of((tmp_path / "a.mp4").read_bytes()))
    for kind in ("json", "csv", "npz"):
        answer = server.ask("GET", f"{video}/motion.{kind}")
        (tmp_path / f"m.{kind}").write_bytes(answer.content)
        assert len(Motion.load(tmp_path / f"m.{kind}")) == 11
    assert server.ask("GET", f"{video}/motion.exe").status_code == 404
    assert server.ask("DELETE", video).status_code == 204 and server.ask("GET", video).status_code == 404


def test_without_a_speech_the_embedded_sentence_is_said_and_seconds_cut_it(server):
    assert ended(server, make(server, options={"seconds": 0.2}))["total"] == 5


def test_layers_are_packed_if_they_are_asked_for(server):
    without = make(server, options={"seconds": 0.1})
    with_them = make(server, options={"seconds": 0.1, "layers": True})
    assert ended(server, with_them)["frames"] == 3
    answer = server.ask("GET", f"{with_them}/layers.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as pack:
        assert {"background.png", "alpha/00002.png", "depth/00000.png"} < set(pack.namelist())
        assert Image.open(io.BytesIO(pack.read("alpha/00002.png"))).size == (64, 64)
    assert ended(server, without)["state"] == "done"
    assert "made without layers" in error_of(server.ask("GET", f"{without}/layers.zip"))
    files = server.files()
    server.ask("DELETE", with_them)
    wait_for(lambda: len(server.files()) == len(files) - 2 and not any(path.is_dir() for path in server.files()))


def test_a_clip_is_followed(server, clip):
    video = make(server, driving=server.media(clip))
    assert ended(server, video) == {"state": "done", "frames": 12, "total": 12}
    with av.open(io.BytesIO(server.ask("GET", f"{video}/file").content)) as container:
        assert container.streams.audio


def test_a_cancelled_video_stops_and_leaves_no_file(server, speech):
    before = set(server.files())
    first, second = make(server), make(server)
    wait_for(lambda: (server.ask("GET", first).json()["total"] or 0) > 100)
    assert server.ask("GET", second).json()["state"] == "waiting"
    answer = server.ask("GET", f"{first}/file")
    assert answer.status_code == 409 and "is running" in error_of(answer) and answer.headers["retry-after"]
    for video in (second, first):
        assert server.ask("DELETE", video).status_code == 204
    wait_for(lambda: set(server.files()) == before and server.state.waiting() == 0)
    assert server.state.metrics.videos.labels("cancelled")._value.get() == 2


def test_portraits_are_shown_and_forgotten(server):
    name = server.portrait()
    picture = server.ask("GET", f"/portraits/{name}/picture")
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)
    assert server.ask("DELETE", f"/portraits/{name}").status_code == 204
    assert "no such portrait" in error_of(server.ask("GET", f"/portraits/{name}/picture"))


def test_a_photo_becomes_a_portrait_and_the_upload_is_gone(server, media):
    before = server.files()
    photo = (media / "portraits" / "front_suit_man.png").read_bytes()
    answer = server.ask("POST", "/portraits", data=photo)
    assert answer.status_code == 201 and answer.json()["size"] == 64 and server.files() == before
    refused = server.ask("POST", "/portraits", data=(media / "reject" / "two_faces_couple_rgba.png").read_bytes())
    assert refused.status_code == 422 and "choose one with face (0" in error_of(refused)
    chosen = server.ask("POST", "/portraits?face=0", data=(media / "reject" / "two_faces_couple_rgba.png").read_bytes())
    assert chosen.status_code == 201 and server.files() == before


def png(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


UP = f"..{os.sep}"
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"
BROKEN = [
    ("/portraits", b"", "empty"),
    ("/portraits", b"no picture at all", "the photo is no picture"),
    ("/portraits", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "the photo is no picture"),
    ("/portraits", png(64)[:60], "the photo is damaged"),
    ("/portraits", png(64), "no face found in the photo"),
    ("/portraits", png(8), "8 x 8"),
    ("/portraits?face=first", png(64), "whole number"),
    ("/portraits?anyway=perhaps", png(64), "yes or no"),
    ("/portraits?person=other", png(64), "must be demo"),
    ("/media", b"", "empty"),
    ("/media", PLAYLIST, "no sound or video file"),
    ("/media", b"RIFF" + PLAYLIST, "no sound or video file"),
    ("/media", b"RIFF\0\0\0\0WAVEfmt ", "the sound"),
    ("/media", b"\0\0\0\x18ftypmp42" + bytes(500), "the sound"),
]


@pytest.mark.parametrize("path, body, words", BROKEN)
def test_a_broken_upload_is_one_line_and_leaves_nothing(server, path, body, words):
    before, held = server.files(), server.state.store.held
    answer = server.ask("POST", path, data=body)
    assert answer.status_code == 422 and words in error_of(answer)
    assert server.files() == before and server.state.store.held == held
    assert str(server.state.store._folder) not in answer.text


@pytest.mark.parametrize(
    "asked, status, words",
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "no JSON object"),
        (b"[" * 60_000, 400, "no JSON"),
        (b"x" * 70_000, 413, "longer than"),
        ({}, 422, "portrait must be a name"),
        ({"portrait": ["a"]}, 422, "portrait must be a name"),
        ({"portrait": f"{UP}{UP}etc/passwd"}, 404, "no such portrait"),
        ({"portrai": 1}, 422, "did you mean portrait?"),
        ({"options": 3}, 422, "options must be a JSON object"),
        ({"options": {"pose": "wild"}}, 422, "pose is 'wild'"),
        ({"options": {"pose": "/etc/passwd"}}, 422, "pose is"),
        ({"options": {"background": "docs"}}, 422, "background is 'docs'; give photo, or a colour"),
        ({"options": {"background": f"{UP}{UP}x.png"}}, 422, "background"),
        ({"options": {"mouth_amplitude": "1"}}, 422, "must be a number"),
        ({"options": {"mouth_amplitude": 9}}, 422, "mouth_amplitude is 9"),
        ({"options": {"seconds": 0}}, 422, "seconds is 0"),
        ({"options": {"seed": -1}}, 422, "seed is -1"),
        ({"options": {"output": "x"}}, 422, "unknown key output"),
        ({"speech": "x"}, 404, "no such upload"),
        ({"speech": "x", "driving": "y"}, 422, "both given"),
    ],
)
def test_a_wrong_request_is_one_line(server, asked, status, words):
    if isinstance(asked, dict) and "portrait" not in asked and asked and "portrai" not in asked:
        asked = {"portrait": server.portrait(), **asked}
    data = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    answer = server.ask("POST", "/videos", data=data)
    assert answer.status_code == status and words in error_of(answer)


def test_sound_is_not_followed_and_silent_clips_do_not_speak(server, speech, tmp_path):
    from modules.media.video_writer import VideoWriter

    with VideoWriter(tmp_path / "silent.mp4", (64, 64)) as video:
        for _ in range(5):
            video.write(np.zeros((64, 64, 3), np.uint8))
    asked = {"portrait": server.portrait(), "driving": server.media(speech)}
    assert "no moving pictures" in error_of(server.ask("POST", "/videos", json=asked))
    asked = {"portrait": asked["portrait"], "speech": server.media(tmp_path / "silent.mp4")}
    assert "no sound to speak" in error_of(server.ask("POST", "/videos", json=asked))


@pytest.mark.parametrize(
    "path",
    ["/x", "/portraits/%2e%2e%2f%2e%2e%2fetc%2fpasswd/picture", "/page/%2e%2e/api.py", f"/page/{UP}api.py", "//"],
)
def test_addresses_that_there_are_not_are_refused(server, path):
    answer = server.ask("GET", path)
    assert answer.status_code == 404 and error_of(answer)
    assert server.ask("PUT", "/videos").status_code == 405


def test_what_was_uploaded_is_told_again(server, speech):
    name = server.media(speech)
    told = {"seconds": 0.44, "sound": True, "pictures": False}
    assert server.ask("GET", f"/media/{name}").json() == told
    portrait = server.portrait()
    assert server.ask("HEAD", f"/portraits/{portrait}/picture").status_code == 200
    assert server.ask("DELETE", f"/media/{name}").status_code == 204
    assert server.ask("GET", f"/media/{name}").status_code == 404


def test_health_and_metrics(server):
    assert server.ask("GET", "/health").json()["status"] == "ok"
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'real3d_answers_total{method="GET",status="200"}' in answer.text and "process_resident_memory" in answer.text


def test_limits_are_kept(pipeline, speech, media):
    limits = {
        "layers_seconds": 0.1,
        "photo_bytes": 50_000,
        "speech_seconds": 0.3,
        "photo_pixels": 90_000,
        "portraits": 1,
        "videos": 1,
    }
    with served(pipeline, look_ahead=1.0, sessions=1, **limits) as server:
        large = server.ask("POST", "/portraits", data=bytes(60_000))
        assert large.status_code == 413 and "at most 0.05 MB" in error_of(large)
        huge = requests.Request("POST", f"http://{server.address}/portraits", data=b"").prepare()
        huge.headers["Content-Length"] = "999999999999"
        assert requests.Session().send(huge, timeout=10).status_code == 413
        assert "0.09 million pixels" in error_of(server.ask("POST", "/portraits", data=png(310)))
        assert "longer than 0.3 seconds" in error_of(server.ask("POST", "/media", data=speech.read_bytes()))
        name = server.portrait()
        full = server.ask("POST", "/portraits?person=demo")
        assert full.status_code == 503 and "holds 1 portraits" in error_of(full) and full.headers["retry-after"]
        asked = {"portrait": name, "options": {"look_ahead": 3}}
        assert "at most 1 seconds" in error_of(server.ask("POST", "/sessions", json=asked))
        assert server.ask("POST", "/sessions", json={"portrait": name}).status_code == 201
        assert server.ask("POST", "/sessions", json={"portrait": name}).status_code == 503
        answer = server.ask("POST", "/videos", json={"portrait": name, "options": {"layers": True}})
        assert ended(server, f"/videos/{answer.json()['video']}")["error"].startswith("layers are given of at most 0.1")
        server.ask("DELETE", f"/videos/{answer.json()['video']}")
        assert server.ask("POST", "/videos", json={"portrait": name}).status_code == 202
        assert server.ask("POST", "/videos", json={"portrait": name}).status_code == 503


def test_what_is_idle_is_forgotten(pipeline, speech):
    with served(pipeline, idle_seconds=0.4) as server:
        server.portrait(), server.media(speech), server.open_session()
        wait_for(lambda: not server.state.portraits and not server.state.media and not server.state.sessions)
        assert server.files() == [] and server.state.store.held == 0


def test_on_a_disk_that_is_really_full_all_is_answered_and_nothing_is_left(pipeline, speech, small_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk.folder))
    with served(pipeline) as server:
        portrait, media = server.portrait(), server.media(speech)
        before = server.files()
        filler = small_disk.fill(8_000)
        for path in ("/media", "/portraits"):
            answer = server.ask("POST", path, data=speech.read_bytes() + bytes(100_000))
            assert answer.status_code == 507 and "No space left" in error_of(answer)
            assert answer.headers["retry-after"]
        asked = {"portrait": portrait, "speech": media}
        for options in ({}, {"layers": True}):
            video = server.ask("POST", "/videos", json=asked | {"options": options}).json()["video"]
            wait_for(lambda name=video: server.ask("GET", f"/videos/{name}").json()["state"] == "failed")
            error = server.ask("GET", f"/videos/{video}").json()["error"]
            assert "No space left" in error and str(small_disk.folder) not in error
            answer = server.ask("GET", f"/videos/{video}/file")
            assert answer.status_code == 507 and "No space left" in error_of(answer)
        assert server.files() == before and server.ask("GET", "/health").status_code == 200
        filler.unlink()
        video = server.ask("POST", "/videos", json=asked).json()["video"]
        wait_for(lambda: server.ask("GET", f"/videos/{video}").json()["state"] == "done")
        assert server.ask("GET", f"/videos/{video}/file").content[4:8] == b"ftyp"
    assert list(small_disk.folder.iterdir()) == []


def test_videos_that_cannot_be_kept_fail_and_leave_nothing_half(pipeline, speech, small_disk):
    small_disk.fill(1_000)
    with served(pipeline, keep=small_disk.folder) as server:
        asked = {"portrait": server.portrait(), "speech": server.media(speech)}
        video = server.ask("POST", "/videos", json=asked).json()["video"]
        wait_for(lambda: server.ask("GET", f"/videos/{video}").json()["state"] == "failed")
        assert "No space left" in server.ask("GET", f"/videos/{video}").json()["error"]
    assert [path.name for path in small_disk.folder.iterdir()] == ["filler"]


def test_a_full_disk_is_answered_and_leaves_nothing(server, monkeypatch, speech):
    real = Path.open

    class Full:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    def opened(path, mode="r", *more, **rest):
        file = real(path, mode, *more, **rest)
        return Full(file) if mode == "xb" else file

    before = server.files()
    monkeypatch.setattr(Path, "open", opened)
    answer = server.ask("POST", "/media", data=speech.read_bytes())
    assert answer.status_code == 507 and "No space left" in error_of(answer) and server.files() == before


def test_many_uploads_at_once_are_all_answered(pipeline, speech):
    """Good, broken, too large and cut short, in turn; the server is as it was."""
    sound = speech.read_bytes()
    with served(pipeline, media_bytes=100_000, media=200) as server:
        host, port = server.address.split(":")

        def upload(number: int) -> int:
            kind = number % 4
            if kind == 3:  # leaves in the middle
                with socket.create_connection((host, int(port))) as line:
                    line.sendall(
                        f"POST /media HTTP/1.1\r\nHost: {server.address}\r\nContent-Length: 5000\r\n\r\n".encode()
                    )
                    line.sendall(sound[:1000])
                return 0
            body = (sound, b"RIFF" + os.urandom(2000), bytes(150_000))[kind]
            return server.ask("POST", "/media", data=body).status_code

        with ThreadPoolExecutor(30) as pool:
            statuses = list(pool.map(upload, range(100)))
        assert statuses == [201, 422, 413, 0] * 25
        wait_for(lambda: server.state.waiting() == 0 and len(server.files()) == 25 == len(server.state.media))
        assert server.ask("GET", "/health").status_code == 200
        assert server.state.store.held == 25 * len(sound)


def test_while_a_video_is_made_the_server_answers_at_once(server):
    video = make(server)
    wait_for(lambda: server.ask("GET", video).json()["frames"] > 2)
    answer = server.ask("GET", "/health")
    assert answer.elapsed.total_seconds() < 0.5 and answer.json()["work_waiting"] >= 1
    server.ask("DELETE", video)


def test_finished_videos_are_left_in_a_folder_if_asked(pipeline, tmp_path):
    import asyncio

    from inference.web.api import Server
    from inference.web.config import ServerLimits
    from inference.web.metrics import Metrics
    from inference.web.studio import Studio, VideoOptions

    async def go() -> None:
        limits = ServerLimits()
        server = Server(Studio(pipeline, "planes", limits), limits, Metrics(), keep=tmp_path)
        painter = await server.lane.run(server.studio.portrait, None)
        name = server.videos.start(painter, None, None, VideoOptions(seconds=0.1))
        await server.videos.shelf.get(name).task
        await server.close()

    asyncio.run(go())
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_a_signal_stops_the_command_and_nothing_is_left(checkpoint, tmp_path):
    import subprocess
    import sys

    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "inference.serve", "--port", "0", "--checkpoint", str(checkpoint)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("listening at http://localhost:")
        address = line.split()[-1]
        portrait = requests.post(f"{address}portraits?person=demo", timeout=30).json()["portrait"]
        assert requests.post(f"{address}videos", json={"portrait": portrait}, timeout=30).status_code == 202
        assert any(tmp_path.glob("real3d-*"))
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        watchdog.cancel()
        assert process.stderr.read() == "stopped\n" and not any(tmp_path.glob("real3d-*"))
