"""Measure the server: first frame, frames a second, many uploads at once, memory over minutes and hours.

python -m scripts.benchmark_serve                          # the embedded model; prints a table
python -m scripts.benchmark_serve --minutes 10 --size 256 --plot memory.png --output serve.json
python -m scripts.benchmark_serve --soak 3600 --plot soak.png --output soak.json     # an hour of short sessions, alone

Needs requirements-serve.txt. Linux alone, as it reads the server's memory and CPU time from /proc.
"""

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import requests
from PIL import Image

from inference.options import DEMO_SPEECH
from inference.serve import SERVE_REQUIREMENTS
from modules.media.audio import read_mono
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from modules.system.packages import check_package

_CHUNK = SAMPLE_RATE // FRAME_RATE  # samples of a frame
_TIMEOUT = 300.0  # seconds
_SOAK_SPEECH = 4.0  # seconds of speech in each session of a soak
_SOAK_WATCH = 10.0  # seconds between two looks at its server


@dataclass(frozen=True)
class LiveResult:
    """A live session.

    Attributes:
        first_frame: seconds from the first sound to the first frame, in the median and at most, where sound comes in
            real time.
        frames_per_second: where sound comes as fast as it is taken.
        cpu_per_frame: seconds of the server's processor time.
    """

    first_frame: float
    first_frame_most: float
    frames_per_second: float
    cpu_per_frame: float


@dataclass(frozen=True)
class UploadResult:
    """Uploads at once: good, broken, too large, and cut short by their sender.

    Attributes:
        answers: how many had which status; "left" are those that did not wait for theirs.
        seconds: until all were answered.
        slowest_health: seconds in which the server answered that it lives, at worst.
        memory_before, memory_most, memory_after: MB.
    """

    answers: dict[str, int]
    seconds: float
    slowest_health: float
    memory_before: float
    memory_most: float
    memory_after: float


@dataclass(frozen=True)
class SoakResult:
    """Short sessions one after another at a low rate.

    Attributes:
        rows: (seconds since the start, MB in memory, open files, threads) of the server, every ten seconds.
        sessions: how many sent all their frames.
        failures: what went wrong with the others, a line each.
        cores: of processor time that the server used in the mean.
        growth: MB an hour, the slope of the memory after the first sixth of the time, in which caches fill.
        memory_first, memory_last: MB, the medians of the second and of the last sixth of the time.
    """

    rows: list[tuple[float, float, int, int]]
    sessions: int
    failures: list[str]
    cores: float
    growth: float
    memory_first: float
    memory_last: float


class ServerProcess:
    """A server of its own that is measured.

    Attributes:
        address: http://localhost:PORT
    """

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.address, self._process = address, process

    def memory(self) -> float:
        """MB of it that are in memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def held(self) -> tuple[int, int]:
        """How many files it has open and how many threads it has."""
        process = Path(f"/proc/{self._process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def portrait(self) -> str:
        """The name of a new portrait of the embedded person."""
        return requests.post(f"{self.address}/portraits?person=demo", timeout=_TIMEOUT).json()["portrait"]

    def drop(self, portrait: str) -> None:
        """Let the server forget a portrait."""
        requests.delete(f"{self.address}/portraits/{portrait}", timeout=_TIMEOUT).raise_for_status()

    def session(self, frames: str = "jpeg", portrait: str | None = None) -> str:
        """Open a session, of a new portrait if none is given, which sends such frames; its WebSocket's address."""
        asked = {"portrait": portrait or self.portrait(), "options": {"frames": frames}}
        answer = requests.post(f"{self.address}/sessions", json=asked, timeout=_TIMEOUT).json()
        return f"ws://{urlsplit(self.address).netloc}{answer['socket']}"


@contextmanager
def serving(arguments: list[str]) -> Iterator[ServerProcess]:
    """Run the server with these arguments until the `with` ends.

    Raises:
        UserError: it does not start.
    """
    command = [sys.executable, "-m", "inference.serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own command)
        line = process.stdout.readline()
        if "http://" not in line:
            raise UserError("the server does not start; its message says why")
        try:
            yield ServerProcess(process, line.split()[-1].rstrip("/"))
        finally:
            process.terminate()


def measure_live(server: ServerProcess, times: int, seconds: float, frames: str) -> LiveResult:
    """First frames of `times` sessions in real time, then `seconds` of speech as fast as it is taken."""
    from websockets.sync.client import connect

    wave = speech_of(max(seconds, 3.0))
    waits = []
    for _ in range(times):
        with connect(server.session(frames), max_size=None) as line:
            line.recv()
            waits.append(_first_frame(line, wave))
    with connect(server.session(frames), max_size=None) as line:
        line.recv()
        cpu, began = server.cpu(), time.monotonic()
        count = _speak(line, wave[: round(seconds * SAMPLE_RATE)])
        took, used = time.monotonic() - began, server.cpu() - cpu
    return LiveResult(statistics.median(waits), max(waits), count / took, used / count)


def _first_frame(line: object, wave: np.ndarray) -> float:
    """Seconds until a picture comes while sound comes in real time."""
    began = time.monotonic()
    for number in range(len(wave) // _CHUNK):
        line.send(wave[number * _CHUNK : (number + 1) * _CHUNK].tobytes())
        due = began + (number + 1) / FRAME_RATE
        while time.monotonic() < due:
            try:
                message = line.recv(timeout=max(0.0, due - time.monotonic()))
            except TimeoutError:
                break
            if isinstance(message, bytes) and not (b"ftyp" in message and b"moof" not in message):  # the head alone
                return time.monotonic() - began
    raise UserError("no frame came; is the server too slow?")


def _speak(line: object, wave: np.ndarray) -> int:
    """Say it all; how many frames came."""

    def send() -> None:
        for start in range(0, len(wave), SAMPLE_RATE):
            line.send(wave[start : start + SAMPLE_RATE].tobytes())
        line.send(json.dumps({"type": "finish"}))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while True:
        message = line.recv(timeout=_TIMEOUT)
        if isinstance(message, str) and "finished" in message:
            sender.join()
            return json.loads(message)["frames"]


def measure_uploads(server: ServerProcess, count: int, photo: bytes) -> UploadResult:
    """Send `count` photos at once: as they are, broken, too large, and cut short, in turn."""
    limits = requests.get(f"{server.address}/limits", timeout=_TIMEOUT).json()
    bodies = (photo, b"\xff\xd8" + os.urandom(20_000), bytes(limits["photo_bytes"] + 1_000_000))
    parts, before = urlsplit(server.address), server.memory()

    def upload(number: int) -> str:
        if number % 4 == 3:
            with socket.create_connection((parts.hostname, parts.port)) as line:
                head = f"POST /portraits HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(photo)}\r\n\r\n"
                line.sendall(head.encode() + photo[: len(photo) // 2])
            return "left"
        answer = requests.post(f"{server.address}/portraits", data=bodies[number % 4], timeout=_TIMEOUT)
        return str(answer.status_code)

    most, slowest, over = [before], [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            most.append(server.memory())
            slowest.append(requests.get(f"{server.address}/health", timeout=_TIMEOUT).elapsed.total_seconds())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(count) as pool:
            answers = Counter(pool.map(upload, range(count)))
    finally:
        over.set()
        watcher.join()
    took = time.monotonic() - began
    return UploadResult(dict(sorted(answers.items())), took, max(slowest), before, max(most), server.memory())


def measure_memory(server: ServerProcess, minutes: float, frames: str) -> list[tuple[float, float]]:
    """Stream so many minutes of speech in one session: (minutes streamed, MB) about once in five seconds of speech."""
    from websockets.sync.client import connect

    wave, rows = speech_of(5.0), []
    with connect(server.session(frames), max_size=None) as line:
        line.recv()
        for number in range(round(minutes * 12)):
            _speak(line, wave)
            rows.append(((number + 1) / 12, server.memory()))
    return rows


def measure_soak(server: ServerProcess, seconds: float, every: float) -> SoakResult:
    """For so many seconds, at least two of `every`, begin a session of 4 s of speech in each, JPEG and MP4 in turn."""
    rows, failures, over = [], [], threading.Event()
    wave, began, cpu = speech_of(_SOAK_SPEECH), time.monotonic(), server.cpu()

    def watch() -> None:
        while not over.is_set():
            rows.append((time.monotonic() - began, server.memory(), *server.held()))
            over.wait(min(_SOAK_WATCH, seconds / 12))

    watcher = threading.Thread(target=watch)
    watcher.start()
    sessions = int(seconds // every)
    try:
        for number in range(sessions):
            try:
                _short_session(server, ("jpeg", "mp4")[number % 2], wave)
            except (OSError, ValueError, KeyError, requests.RequestException, UserError) as error:
                failures.append(f"session {number} at {time.monotonic() - began:.0f} s: {error!r}")
            time.sleep(max(0.0, began + (number + 1) * every - time.monotonic()))
    finally:
        over.set()
        watcher.join()
    return _soak_result(rows, sessions - len(failures), failures, server.cpu() - cpu)


def _short_session(server: ServerProcess, frames: str, wave: np.ndarray) -> None:
    """A portrait, all that one says to it, and good-bye."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    name = server.portrait()
    try:
        with connect(server.session(frames, name), max_size=None) as line:
            line.recv()
            count, wanted = _speak(line, wave), round(len(wave) / _CHUNK)
    except WebSocketException as error:
        raise UserError(f"the line broke: {error}") from error
    finally:
        server.drop(name)
    if count != wanted:
        raise UserError(f"{count} frames came instead of {wanted}")


def _soak_result(
    rows: list[tuple[float, float, int, int]], sessions: int, failures: list[str], cpu: float
) -> SoakResult:
    times, memory = np.array([row[:2] for row in rows]).T
    end = times[-1]
    settled = times >= end / 6
    slope = np.polyfit(times[settled] / 3600, memory[settled], 1)[0]
    first, last = memory[settled & (times < end / 3)], memory[times >= end * 5 / 6]
    return SoakResult(
        rows, sessions, failures, cpu / end, float(slope), float(np.median(first)), float(np.median(last))
    )


def speech_of(seconds: float) -> np.ndarray:
    """The embedded sentence again and again, int16 at 16 kHz."""
    sentence = (read_mono(DEMO_SPEECH, SAMPLE_RATE) * 32767).astype("<i2")
    return np.resize(sentence, round(seconds * SAMPLE_RATE))


def draw(path: Path, rows: list[tuple[float, float]], what: str) -> None:
    """The memory, MB, over the minutes as a picture; `what` the minutes are of."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(*zip(*rows))
    axes.set(xlabel=f"minutes {what}", ylabel="memory of the server, MB", ylim=(0, 1.2 * max(row[1] for row in rows)))
    with named_file(path) as part:
        figure.savefig(part, format=path.suffix.lstrip("."))
    pyplot.close(figure)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark_serve",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    parser.add_argument("--size", type=int, help="as of inference.serve")
    parser.add_argument("--threads", type=int, default=1, help="as of inference.serve")
    parser.add_argument("--frames", choices=("jpeg", "png", "mp4"), default="jpeg", help="what the sessions send")
    parser.add_argument("--times", type=int, default=5, help="first frames")
    parser.add_argument("--seconds", type=float, default=20.0, help="speech of which the frames a second are taken")
    parser.add_argument("--uploads", type=int, default=100, help="photos at once; 0: none")
    parser.add_argument("--photo", type=Path, help="a photo for them; without it the embedded person's picture")
    parser.add_argument("--minutes", type=float, default=0.0, help="of a session whose memory is watched")
    parser.add_argument(
        "--soak", type=float, default=0.0, help="seconds of short sessions one after another, and nothing else"
    )
    parser.add_argument("--every", type=float, default=60.0, help="seconds from one session of --soak to the next")
    parser.add_argument("--plot", type=Path, help="draw the memory (.png or .svg)")
    parser.add_argument("--output", type=Path, help="also write the numbers (.json)")
    return parser.parse_args(arguments)


def benchmark(options: argparse.Namespace) -> dict[str, object]:
    """All measurements that the options ask for, and their table on stdout."""
    more = [] if options.size is None else ["--size", str(options.size)]
    with serving(["--checkpoint", str(options.checkpoint), "--threads", str(options.threads), *more]) as server:
        if options.soak:
            return {"soak": asdict(soak(server, options))}
        live = measure_live(server, options.times, options.seconds, options.frames)
        result: dict[str, object] = {"live": asdict(live)}
        print(f"first frame: {live.first_frame:.2f} s after the first sound (at most {live.first_frame_most:.2f})")
        print(f"frames: {live.frames_per_second:.1f} a second, {live.cpu_per_frame:.3f} CPU seconds each")
        if options.uploads:
            uploads = measure_uploads(server, options.uploads, photo_of(options.photo, server))
            result["uploads"] = asdict(uploads)
            print(f"{options.uploads} uploads at once: {uploads.answers} in {uploads.seconds:.0f} s")
            print(
                f"  health within {uploads.slowest_health:.2f} s; memory {uploads.memory_before:.0f} MB before, ",
                end="",
            )
            print(f"{uploads.memory_most:.0f} at most, {uploads.memory_after:.0f} after")
        if options.minutes:
            rows = measure_memory(server, options.minutes, options.frames)
            result["memory"] = rows
            later = [memory for _, memory in rows[len(rows) // 5 :]]
            print(
                f"{options.minutes:g} minutes streamed: {min(later):.0f} to {max(later):.0f} MB after the first fifth"
            )
            if options.plot:
                draw(options.plot, rows, "streamed")
    return result


def soak(server: ServerProcess, options: argparse.Namespace) -> SoakResult:
    """The soak that the options ask for, its table on stdout, and its plot."""
    result = measure_soak(server, options.soak, options.every)
    for failure in result.failures:
        print(f"failed: {failure}")
    files, threads = zip(*(row[2:] for row in result.rows[len(result.rows) // 6 :]))
    print(f"{options.soak / 60:g} minutes: {result.sessions} sessions, {len(result.failures)} failed")
    print(
        f"memory: {result.memory_first:.0f} MB in the second sixth of the time, {result.memory_last:.0f} in the last; "
        f"{result.growth:+.1f} MB an hour"
    )
    print(
        f"open files {min(files)} to {max(files)}, threads {min(threads)} to {max(threads)} after the first sixth; "
        f"{result.cores:.0%} of a core"
    )
    if options.plot:
        draw(options.plot, [(row[0] / 60, row[1]) for row in result.rows], f"of sessions every {options.every:g} s")
    return result


def photo_of(path: Path | None, server: ServerProcess) -> bytes:
    """The bytes of a photo of a face."""
    if path is not None:
        return path.read_bytes()
    name = requests.post(f"{server.address}/portraits?person=demo", timeout=_TIMEOUT).json()["portrait"]
    picture = requests.get(f"{server.address}/portraits/{name}/picture", timeout=_TIMEOUT).content
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).save(file, "PNG")
    return file.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 after a user's error."""

    def body() -> None:
        options = parse(arguments)
        for package in ("websockets", "uvicorn"):
            check_package(package, "this measurement", "leave it", SERVE_REQUIREMENTS)
        if not Path("/proc/self/statm").exists():
            raise UserError("this measures on Linux alone; use another computer")
        if 0 < options.soak < 2 * options.every:
            raise UserError(
                f"--soak {options.soak:g} has no time for two sessions; give at least {2 * options.every:g}"
            )
        result = benchmark(options)
        if options.output:
            with named_file(options.output) as part:
                part.write_text(json.dumps(result, indent=1))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
