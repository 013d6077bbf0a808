import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from modules.system import packages
from modules.system.cluster import run_on_cluster
from modules.system.errors import UserError
from tests.ray_cluster import ray_cluster  # noqa: F401


def where(offset: int, item: int) -> tuple[int, int, int, str]:
    """The item plus an offset, the process, its threads and its folder."""
    return item + offset, os.getpid(), torch.get_num_threads(), os.getcwd()


def fail(item: int) -> int:
    raise UserError(f"item {item} is bad")


def die_once(folder: str, item: int) -> int:
    """Its process is killed when it sees an item for the first time."""
    seen = Path(folder, str(item))
    if not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin_and_sleep(folder: str, item: int) -> int:
    """Writes down its node when it begins, and that it ended; takes long the first time, but for the first item."""
    import ray

    path = Path(folder, str(item))
    seconds = 0.5 if item == 0 or path.exists() else 12.0
    with path.open("a") as file:
        print(ray.get_runtime_context().get_node_id(), file=file, flush=True)
        time.sleep(seconds)
        print("ended", file=file)
    return item


def write_and_wait(folder: str, item: int) -> int:
    part = Path(folder, f"{item}.part")
    part.touch()
    try:
        for _ in range(0 if item == 0 else 6000):  # Ray interrupts Python, not one long sleep
            time.sleep(0.01)
    finally:
        part.unlink()
    return item


def test_without_ray_one_line_says_what_to_do(monkeypatch):
    def missing(name: str):
        raise ImportError(name)

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(UserError, match="--engine ray needs the package ray; pip install .*requirements-ray.txt"):
        list(run_on_cluster(fail, [1], workers=2))


def test_without_a_cluster_one_line_says_what_to_do(monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed (requirements-ray.txt)")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="there is no Ray cluster at 127.0.0.1:1; start one"):
        list(run_on_cluster(fail, [1], workers=2))


@pytest.mark.slow
def test_a_cluster_is_used_as_processes_are_and_survives_what_dies(ray_cluster, tmp_path):  # noqa: F811
    results = list(run_on_cluster(partial(where, 10), list(range(6)), workers=1))
    assert sorted(item for item, *_ in results) == list(range(10, 16))
    assert os.getpid() not in {process for _, process, *_ in results}
    assert {rest for *_, rest in [(r[0], r[2:]) for r in results]} == {(1, os.getcwd())}
    assert list(run_on_cluster(fail, [], workers=1)) == []
    with pytest.raises(UserError, match="^item [12] is bad$"):
        list(run_on_cluster(fail, [1, 2], workers=1))
    assert sorted(run_on_cluster(partial(die_once, str(tmp_path)), [1, 2, 3], workers=1)) == [1, 2, 3]
    with pytest.raises(UserError, match="killed 6 times over one item"):
        list(run_on_cluster(die, [1], workers=1))


def busy_nodes(folder: Path) -> set[str]:
    lines = (path.read_text().split() for path in folder.iterdir())
    return {words[-1] for words in lines if words and words[-1] != "ended"}


@pytest.mark.slow
def test_nodes_leave_and_join_in_the_middle(ray_cluster, tmp_path):  # noqa: F811
    results = run_on_cluster(partial(begin_and_sleep, str(tmp_path)), list(range(4)), workers=1)
    first, end = next(results), time.monotonic() + 60
    while not busy_nodes(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    [leaving, *_] = (node for node in ray_cluster.worker_nodes if node.node_id in busy_nodes(tmp_path))
    ray_cluster.remove_node(leaving, allow_graceful=False)
    joined = ray_cluster.add_node(num_cpus=1)
    assert sorted([first, *results]) == list(range(4))
    nodes = [path.read_text().split() for path in tmp_path.iterdir()]
    assert [words[-1] for words in nodes] == ["ended"] * 4
    assert any(len(words) > 2 for words in nodes)  # what ran on the node that left was done again
    assert any(joined.node_id in words for words in nodes)


@pytest.mark.slow
def test_who_stops_listening_stops_the_tasks_which_clean_up(ray_cluster, tmp_path):  # noqa: F811
    results = run_on_cluster(partial(write_and_wait, str(tmp_path)), [0, 1, 2], workers=1)
    assert next(results) == 0
    end = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(tmp_path.iterdir())
    results.close()
    assert list(tmp_path.iterdir()) == []
