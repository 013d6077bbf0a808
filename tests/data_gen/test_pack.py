import os
import time
from pathlib import Path

import pytest

from data_gen import pack as packing
from data_gen.pack import LEFT_AFTER, main, pack
from modules.clips.format import Clip, list_clips
from modules.clips.shards import clip_bytes, packed_clips
from modules.system.errors import UserError
from tests.tasks.tiny_images import write_tiny_clips


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    write_tiny_clips(tmp_path / "clips", clips=5, frames=3)
    return list_clips(tmp_path / "clips")


def two_a_shard(clips: list[Path]) -> float:
    """Megabytes that two clips fill."""
    return 1.5 * max(map(clip_bytes, clips)) / 2**20


def test_clips_are_packed_in_order_and_the_folder_stays(clips, tmp_path, capsys):
    arguments = [str(tmp_path / "clips"), str(tmp_path / "out"), "--megabytes", str(two_a_shard(clips))]
    assert main(arguments) == 0
    assert "5 clips in 3 shards" in capsys.readouterr().out
    packed = list_clips(tmp_path / "out")
    assert (
        [clip.name for clip in packed]
        == [clip.name for clip in clips]
        == [clip.name for clip in clips if clip.is_dir()]
    )
    assert [len({clip.parent for clip in packed[i : i + 2]}) for i in (0, 2, 4)] == [1, 1, 1]


def test_a_stopped_run_continues_and_new_clips_are_added(clips, tmp_path, monkeypatch):
    out, written = tmp_path / "out", []
    write = packing.write_shard

    def stop_after_one(folder: Path, group: list[Path], summaries: dict) -> Path:
        if written:
            raise KeyboardInterrupt
        written.append(group)
        return write(folder, group, summaries)

    monkeypatch.setattr(packing, "write_shard", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "clips", out, two_a_shard(clips))
    assert [clip.name for clip in packed_clips(out)] == [clip.name for clip in clips[:2]]
    first = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr(packing, "write_shard", write)
    assert pack(tmp_path / "clips", out, two_a_shard(clips)) == (5, 3, 0)
    assert all(path.stat().st_mtime_ns == when for path, when in first.items())
    assert pack(tmp_path / "clips", out) == (5, 3, 0) and len(list(out.glob("*.tar"))) == 3
    write_tiny_clips(tmp_path / "clips", clips=6, frames=3)
    assert pack(tmp_path / "clips", out) == (6, 4, 0) and len(list(out.glob("*.tar"))) == 4


def test_damaged_clips_are_left_out_and_named(clips, tmp_path, capsys):
    (clips[1] / "clip.npz").write_bytes(b"nothing")
    assert pack(tmp_path / "clips", tmp_path / "out") == (4, 1, 1)
    assert "clip_1" in capsys.readouterr().err
    assert clips[1].name not in [clip.name for clip in list_clips(tmp_path / "out")]


def test_two_runs_that_begin_at_once_leave_each_clip_once(clips, tmp_path, monkeypatch):
    write, out = packing.write_shard, tmp_path / "out"

    def another_run_first(folder: Path, group: list[Path], summaries: dict) -> Path:
        write(folder, group, summaries)
        return write(folder, group, summaries)

    monkeypatch.setattr(packing, "write_shard", another_run_first)
    assert pack(tmp_path / "clips", out, two_a_shard(clips)) == (5, 3, 0)
    assert len(list(out.glob("*.tar"))) == 3 and len(list_clips(out)) == 5


def test_what_a_killed_run_left_is_removed_when_it_is_old(clips, tmp_path):
    (tmp_path / "out").mkdir()
    old, young = (tmp_path / "out" / f".shard-{name}.tar.1.part" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * LEFT_AFTER,) * 2)
    pack(tmp_path / "clips", tmp_path / "out")
    assert not old.exists() and young.exists()


def test_bad_folders_are_refused(clips, tmp_path, capsys):
    with pytest.raises(UserError, match="is the folder of the clips"):
        pack(tmp_path / "clips", tmp_path / "clips")
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    assert main([str(tmp_path / "clips"), str(tmp_path / "out"), "--megabytes", "0"]) == 2
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "clips"), str(tmp_path / "file" / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_clip_that_is_packed_again_is_left_out(clips, tmp_path):
    pack(tmp_path / "clips", tmp_path / "out")
    assert pack(tmp_path / "out", tmp_path / "again") == (0, 0, 5)
    assert Clip(list_clips(tmp_path / "out")[0]).name == "clip_0"
