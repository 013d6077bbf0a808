import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from modules.clips.fields import add_field, read_field
from modules.clips.format import Clip, has_sound, has_stored_pncc, list_clips, person_of
from modules.clips.shards import clip_bytes, has_file, map_array, on_disk, open_file, packed_clips, write_shard
from modules.system.errors import UserError
from tests.tasks.tiny_images import SIZE, write_tiny_clips

FRAMES = 6


@pytest.fixture
def alone(tmp_path: Path) -> list[Path]:
    """Three clips with pictures, PNCCs and a field, in folders of their own."""
    write_tiny_clips(tmp_path / "clips", clips=3, frames=FRAMES)
    clips = list_clips(tmp_path / "clips")
    for clip in clips:
        add_field(clip, "brightness")
    return clips


@pytest.fixture
def packed(alone: list[Path], tmp_path: Path) -> list[Path]:
    """The same clips in two shards."""
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards", alone[:2])
    write_shard(tmp_path / "shards", alone[2:])
    return list_clips(tmp_path / "shards")


def test_a_packed_clip_reads_as_the_folder(alone, packed):
    assert [clip.name for clip in packed] == [clip.name for clip in alone]
    for before, after in zip(map(Clip, alone), map(Clip, packed)):
        assert (before.name, before.source, before.face_model) == (after.name, after.source, after.face_model)
        for name in ("identity", "expression", "euler", "translation"):
            assert getattr(before.face, name).equal(getattr(after.face, name))
        for read in (
            lambda clip: clip.frames([4, 0]),
            lambda clip: clip.classes([1]),
            lambda clip: np.stack(list(clip.all_frames())),
            lambda clip: np.stack(list(clip.all_classes())),
            lambda clip: clip.landmarks,
            lambda clip: clip.background,
            lambda clip: clip.stored_pncc(SIZE),
            lambda clip: read_field(clip, "brightness"),
        ):
            np.testing.assert_array_equal(read(before), read(after))
        assert (before.audio() is None) == (after.audio() is None) and before.audio_length() == after.audio_length()
        assert person_of(before.folder) == person_of(after.folder)
        assert has_sound(before.folder) == has_sound(after.folder)
        assert has_stored_pncc(after.folder, SIZE) and not has_stored_pncc(after.folder, SIZE + 1)
        assert after.speech("mel") is None and after.video == after.folder.parent.resolve()


def test_a_packed_clip_cannot_be_changed(packed):
    with pytest.raises(UserError, match="cannot be written"):
        add_field(packed[0], "mouth_opening")
    assert not add_field(packed[0], "brightness")


def test_clips_of_folders_and_of_shards_are_listed_together_and_once(alone, packed, tmp_path):
    write_tiny_clips(tmp_path / "shards", clips=4, frames=FRAMES)
    clips = list_clips(tmp_path / "shards")
    assert len(clips) == 4 and [clip.name for clip in clips] == sorted(clip.name for clip in clips)
    assert all(clip.is_dir() for clip in clips)


def test_a_shard_is_an_archive_of_samples(alone, packed):
    shard = on_disk(packed[0] / "video.mp4")
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        assert names == sorted(names) or names[0] == "00000000.json"
        assert json.loads(archive.extractfile("00000001.json").read()) == {"name": alone[1].name}
        assert archive.extractfile("00000001.video.mp4").read() == (alone[1] / "video.mp4").read_bytes()
        assert sum(member.size for member in archive if ".json" not in member.name) == sum(map(clip_bytes, alone[:2]))


def test_webdataset_reads_the_shards(alone, packed):
    webdataset = pytest.importorskip("webdataset")
    shard = on_disk(packed[0] / "video.mp4")
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [json.loads(sample["json"])["name"] for sample in samples] == [clip.name for clip in alone[:2]]
    assert samples[1]["video.mp4"] == (alone[1] / "video.mp4").read_bytes()


def test_the_same_clips_make_the_same_bytes(alone, tmp_path):
    paths = [write_shard(tmp_path / name, alone) for name in ("one", "two")]
    for suffix in (".tar", ".json"):
        assert len({path.with_suffix(suffix).read_bytes() for path in paths}) == 1
    assert paths[0].name == paths[1].name != write_shard(tmp_path / "one", alone[:1]).name


def test_a_part_of_an_archive_is_a_file_that_can_be_searched(packed, alone):
    content = (alone[0] / "clip.npz").read_bytes()
    with open_file(packed[0] / "clip.npz") as file:
        assert file.read(10) == content[:10] and file.tell() == 10
        assert file.seek(-20, os.SEEK_END) == len(content) - 20
        assert file.read() == content[-20:] and file.read(5) == b""
        file.seek(3)
        file.seek(4, os.SEEK_CUR)
        assert file.read(2) == content[7:9]


def test_what_is_not_there_is_not_there(packed, alone):
    assert not has_file(packed[0] / "audio.wav") and not has_file(packed[0].parent / "nobody" / "clip.npz")
    with pytest.raises(FileNotFoundError, match="has no audio.wav"):
        open_file(packed[0] / "audio.wav")
    with pytest.raises(UserError, match="no prepared clip"):
        Clip(packed[0].parent / "nobody")
    assert has_file(alone[0] / "clip.npz") and on_disk(alone[0] / "clip.npz") == alone[0] / "clip.npz"


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"version": 9, "clips": {}}', '{"version": 1, "clips": {"a": {"clip.npz": [0, 99999999]}}}', "[]"],
)
def test_a_damaged_index_is_one_line(packed, content):
    packed[0].parent.with_suffix(".json").write_text(content)
    with pytest.raises(UserError, match="missing or damaged"):
        list_clips(packed[0].parent.parent)


def test_a_missing_index_is_one_line_and_other_archives_are_left_alone(packed, tmp_path):
    (tmp_path / "shards" / "raw.tar").write_bytes(b"something else")
    assert len(packed_clips(tmp_path / "shards")) == 3
    packed[0].parent.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        packed_clips(tmp_path / "shards")


def test_arrays_of_objects_are_not_mapped(alone, tmp_path):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    (alone[0] / "pncc_7.npy").write_bytes(file.getvalue())
    shard = write_shard(tmp_path / "other", alone[:1])
    with pytest.raises(ValueError, match="objects"):
        map_array(shard / alone[0].name / "pncc_7.npy")


def test_nothing_of_a_shard_that_cannot_be_written_is_left(alone, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modules.clips.shards._add", full)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path / "full", alone)
    assert list((tmp_path / "full").iterdir()) == []
