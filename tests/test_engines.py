"""The same clips, to the byte, by processes of this machine and by a Ray cluster, and by both in turn."""

import hashlib
import os
import shutil
import signal
import threading
import time
from itertools import islice
from pathlib import Path

import pytest

from data_gen import run
from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.system.cluster import run_on_cluster
from modules.system.processes import run_all
from tests.conftest import ROOT
from tests.ray_cluster import ray_cluster  # noqa: F401

FRAMES, VIDEOS = 14, 4


@pytest.fixture
def raw(media: Path, tmp_path: Path) -> Path:
    """A folder of short talking clips, of which two are the same but for their names."""
    names = ("talk_woman_torso_30fps", "talk_woman_25fps", "talk_man_german_25fps", "talk_woman_25fps")
    for number, name in enumerate(names):
        source = media / "driving" / f"{name}.mp4"
        with VideoWriter(tmp_path / "raw" / f"{number}.mp4", (512, 512), sound=read_sound(source)) as video:
            for frame in islice(open_video(source)[1], FRAMES):
                video.write(frame)
    return tmp_path / "raw"


def sums(folder: Path) -> dict[str, str]:
    """Checksums of the files of all clips; what a killed process left has a hidden name."""
    files = (path for clip in folder.glob("[!.]*/") for path in clip.iterdir())
    return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_a_task(folder: Path, killed: list[int]) -> None:
    """Kill the process that writes the first clip; processes of Ray are told by what they have open."""
    end = time.monotonic() + 240
    while not killed and time.monotonic() < end:
        for part in folder.glob(".*.part"):
            process = int(part.name.split(".")[-2])
            if process != os.getpid() and b"ray::" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
        time.sleep(0.005)


def start(folder: Path, raw: Path, engine: str) -> None:
    config = raw.parent / "short.yaml"
    config.write_text("source: videos\nface_model: ict\nsize: 128\nshortest: 0.4\nworkers: 2\n", encoding="utf-8")
    assert run.main([str(config), f"videos={raw}", f"folder={folder}", "--engine", engine]) == 0


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes_though_a_worker_is_killed_and_goes_on_where_processes_stopped(
    ray_cluster,  # noqa: F811
    raw: Path,
    assets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(ROOT)
    start(tmp_path / "processes", raw, "processes")
    expected = sums(tmp_path / "processes")
    assert len({name.split("/")[0] for name in expected}) == VIDEOS

    killed: list[int] = []
    killer = threading.Thread(target=kill_a_task, args=(tmp_path / "cluster", killed))
    killer.start()
    start(tmp_path / "cluster", raw, "ray")
    killer.join()
    assert killed and sums(tmp_path / "cluster") == expected

    half = tmp_path / "half"  # two videos on this machine, one on the cluster, the last here again
    (waiting := tmp_path / "waiting").mkdir()
    for engine, names in (("processes", ("0", "1")), ("ray", ("2",)), ("processes", ("3",))):
        for name in names:
            shutil.copy(raw / f"{name}.mp4", waiting)
        start(half, waiting, engine)
    assert sums(half) == expected
    done = (half / "done.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in done) == ["0", "1", "2", "3"]


def test_the_engines_are_the_two(capsys):
    assert run.ENGINES == {"processes": run_all, "ray": run_on_cluster}
    with pytest.raises(SystemExit):
        run.main(["configs/data/videos.yaml", "--engine", "spark"])
    assert "processes" in capsys.readouterr().err
