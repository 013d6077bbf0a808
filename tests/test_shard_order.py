"""The order in which training reads clips is a function of seed, epoch and position: whatever the workers, the ranks,
whether the clips are packed, and where runs were killed.
"""

import json
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from data_gen.pack import pack
from modules.clips import store
from modules.clips.format import list_clips
from modules.clips.store import StoreConfig, clip_folder
from modules.system.checkpoint import list_checkpoints, read_config
from tasks.data.frame_pairs import ClipDataConfig, FramePairs
from tasks.engine.loader import StreamSampler, training_loader
from tasks.engine.seeds import derived_seed
from tasks.engine.trainer_config import LoaderConfig
from tasks.run import main
from tests.object_store import Requests, s3_store
from tests.tasks.clip_log import NamedPairs
from tests.tasks.tiny_images import SIZE, write_tiny_clips

CLIPS, PAIRS, SEED = 5, 3, 7
SAMPLES = 4  # of a step, all ranks together
EPOCH = CLIPS * PAIRS  # 15: epochs end within steps
CLIP_DATA = ClipDataConfig(face_model="procedural", pncc_size=SIZE, pairs_per_clip=PAIRS)
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")


class Named(Dataset):
    """Items of the pairs as text: number, clip, and sums of the PNCCs and of the pixels."""

    def __init__(self, folder: str | Path, cache: StoreConfig | None = None) -> None:
        config = replace(CLIP_DATA, folder=str(folder))
        self.pairs = FramePairs(config, list_clips(clip_folder(str(folder), cache or config.store)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> str:
        item = self.pairs[index]
        pixels = int(item["source_image"].sum() + 3 * item["target_image"].sum())
        return f"{index}/{self.pairs.clips[index % CLIPS].name}/{int(item['pncc'].sum())}/{pixels}"


def steps(folder: Path, workers: int, world: int, start: int, count: int):
    """What the ranks of `count` steps see together, from sample `start` on, a list of texts a step."""
    yield from steps_of(Named(folder), workers, world, start, count)


def steps_of(data: Named, workers: int, world: int, start: int, count: int):
    batch = SAMPLES // world
    loaders = []
    for rank in range(world):
        sampler = StreamSampler(len(data), batch, SEED, start, rank, world)
        loaders.append(iter(training_loader(data, sampler, LoaderConfig(batch=batch, workers=workers), list)))
    for _ in range(count):
        yield [text for loader in loaders for text in next(loader)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """The same clips in folders of their own, and in shards of two."""
    root = tmp_path_factory.mktemp("order")
    write_tiny_clips(root / "alone", clips=CLIPS, frames=6)
    pack(root / "alone", root / "packed", megabytes=1e-4)
    assert len(list((root / "packed").glob("*.tar"))) > 1
    return root / "alone", root / "packed"


@pytest.fixture(scope="module")
def expected(folders) -> list[str]:
    """The samples of ten steps, in order, of the clips that are not packed."""
    return [text for step in steps(folders[0], 0, 1, 0, 10) for text in step]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_ranks_and_shards_do_not_change_the_order(folders, expected, workers, world):
    assert [text for step in steps(folders[1], workers, world, 0, 10) for text in step] == expected


def test_an_epoch_has_every_item_once_and_the_next_another_order(expected):
    first, second = ([text.split("/")[0] for text in expected[i : i + EPOCH]] for i in (0, EPOCH))
    assert len(set(first)) == len(set(second)) == EPOCH and first != second


@pytest.mark.parametrize("start, workers, world", [(4, 2, 2), (12, 1, 2), (20, 4, 1), (36, 0, 4)])
def test_a_stopped_epoch_continues_at_its_next_item_with_another_world(folders, expected, start, workers, world):
    count = (40 - start) // SAMPLES
    rest = [text for step in steps(folders[1], workers, world, start, count) for text in step]
    assert rest == expected[start:]


@FORKS
@pytest.mark.parametrize("workers, world", [(1, 2), (4, 1)])
def test_a_store_that_fails_every_tenth_request_changes_nothing(
    folders, expected, workers, world, monkeypatch, tmp_path
):
    """The cache holds less than the clips, so that they are read again and again, by forked workers."""
    for name in ("fsspec", "s3fs", "moto", "flask_cors"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -r requirements-object-store.txt")
    monkeypatch.setattr(store, "FIRST_PAUSE", 0.02)
    requests = Requests(fail_every=10)
    with s3_store(monkeypatch, requests) as address:
        pack(folders[0], address, megabytes=1e-4)
        size = max(path.stat().st_size for path in folders[0].glob("*/*"))
        small = StoreConfig(cache=str(tmp_path / "cache"), gigabytes=4 * size / 1e9)
        data, before = Named(address, small), len(requests.seen)
        seen = [text for step in steps_of(data, workers, world, 0, 10) for text in step]
    assert seen == expected and requests.failed > 2
    assert sum(".tar" in request for request in requests.seen[before:]) > len(list(folders[0].glob("*/*.mp4")))


def _train(folder: Path, log: Path, workers: int, world: int, count: int) -> None:
    """Go on where the log ends, a line a step, each written at once; ends after `count` steps in all."""
    torch.set_num_threads(1)
    done = log.read_text().count("\n") if log.is_file() else 0
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for texts in steps(folder, workers, world, SAMPLES * done, count - done):
        os.write(file, (" ".join(texts) + "\n").encode())


@FORKS
def test_runs_that_are_killed_twenty_times_see_the_same_sequence(folders, tmp_path):
    """Each run has other workers and ranks, dies by SIGKILL at a random moment, and the next goes on from its log."""
    count, log, chance = 120, tmp_path / "log.txt", random.Random(3)
    context = multiprocessing.get_context("fork")
    kills = 0
    while True:
        workers, world = chance.choice((0, 1, 2, 4)), chance.choice((1, 2))
        run = context.Process(target=_train, args=(folders[1], log, workers, world, count))
        before = log.read_text().count("\n") if log.is_file() else 0
        run.start()
        enough = before + chance.randint(0, 8)
        while run.is_alive() and kills < 20:
            if log.is_file() and log.read_text().count("\n") >= enough:
                time.sleep(chance.uniform(0, 0.03))
                os.kill(run.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        run.join()
        if run.exitcode == 0:
            break
        assert run.exitcode == -signal.SIGKILL
        kills += 1
    assert kills == 20
    seen = log.read_text().split()
    assert seen == [text for step in steps(folders[0], 0, 1, 0, count) for text in step]


def _process(arguments: list[str], environment: dict[str, str], start: Callable[[], None]) -> int:
    """A forked process that runs the command of a training; its number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        start()
        os.environ.update(environment)
        torch.set_num_threads(1)
        code = main(arguments)
    finally:
        os._exit(code)


def _launch(arguments: list[str], world: int) -> tuple[int, list[int]]:
    """The command in `world` processes of one group: the group, and the processes."""
    if world == 1:
        first = _process(arguments, {}, lambda: os.setpgid(0, 0))
        return first, [first]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "order"}
    processes: list[int] = []
    for rank in range(world):
        own, group = {"RANK": str(rank), "LOCAL_RANK": str(rank)}, processes[0] if processes else 0
        processes.append(_process(arguments, common | own, lambda group=group: os.setpgid(0, group)))
        if not rank:
            time.sleep(0.05)  # its group is there before another process joins it
    return processes[0], processes


def _wait_or_kill(group: int, processes: list[int], lines: Callable[[], int], enough: int, pause: float) -> list[int]:
    """Exit codes; once the log has `enough` lines, all processes of the group die after a pause."""
    codes: dict[int, int] = {}
    killed = False
    while len(codes) < len(processes):
        for process in processes:
            if process not in codes:
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    codes[process] = os.waitstatus_to_exitcode(status)
        if not killed and 0 <= enough <= lines():
            time.sleep(pause)
            killed = True
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[process] for process in processes]


@FORKS
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_the_command_that_is_killed_and_resumed_with_other_ranks_and_workers_sees_the_same_sequence(
    folders, tmp_path, kills
):
    """`tasks.run` itself, with its checkpoints: 1 process or 2 that talk to each other, 1, 2 or 4 workers."""
    count, log, chance = 12 * (kills + 1), tmp_path / "log.txt", random.Random(kills)
    config = tmp_path / "order.yaml"
    config.write_text(
        f"task: tests.tasks.clip_log\nsteps: {count}\nlog: {{every: 1, tensorboard: false, pictures_every: 0}}\n"
        "checkpoint: {every: 2, keep: 2, milestone: 0}\nprecision: 32-true\n"
        f"seen: {log}\ndata: {{folder: {folders[1]}, face_model: procedural, pncc_size: {SIZE}, "
        f"pairs_per_clip: {PAIRS}}}\n"
    )

    def lines() -> int:
        return log.read_text().count("\n") if log.is_file() else 0

    worlds = []
    for number in range(kills + 1):
        world, workers = 1 + (number + chance.randint(0, 1)) % 2, chance.choice((1, 2, 4))
        arguments = [str(config), f"loader.batch={SAMPLES // world}", f"loader.workers={workers}"]
        arguments += ["--output", str(tmp_path / "run"), "--device", "cpu"]
        enough = lines() + chance.randint(2, 12) if number < kills else -1
        codes = _wait_or_kill(*_launch(arguments, world), lines, enough, chance.uniform(0, 0.05))
        assert set(codes) == ({-signal.SIGKILL} if number < kills else {0})
        worlds.append(world)
    assert set(worlds) == {1, 2} and list_checkpoints(tmp_path / "run")[-1].name.endswith(f"{count:08d}")
    items = NamedPairs(replace(CLIP_DATA, folder=str(folders[0])))
    sampler = iter(StreamSampler(EPOCH, SAMPLES, derived_seed(read_config(tmp_path / "run")["seed"], 1)))
    truth = [[items[index].tolist() for index in next(sampler)] for _ in range(count)]
    seen: dict[int, set[int]] = {step: set() for step in range(count)}
    for line in log.read_text().splitlines():
        step, first, content = line.split(" ", 2)
        batch = json.loads(content)  # a step that was lost with its process is taken again, and is the same
        assert batch == truth[int(step)][int(first) : int(first) + len(batch)]
        seen[int(step)].update(range(int(first), int(first) + len(batch)))
    assert all(positions == set(range(SAMPLES)) for positions in seen.values())
