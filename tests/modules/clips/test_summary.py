import json
from pathlib import Path

import pytest

from data_gen.pack import pack
from modules.clips.format import Clip, has_sound, list_clips, person_of
from modules.clips.splits import SplitConfig, split_clips
from modules.clips.summary import read_summary
from modules.system.errors import UserError
from tests.tasks.tiny_images import write_tiny_clips
from tests.tasks.tiny_speech import write_spoken_clips


@pytest.fixture
def packed(tmp_path: Path) -> list[Path]:
    write_tiny_clips(tmp_path / "alone", clips=2, frames=6)
    write_spoken_clips(tmp_path / "alone", clips=2)
    pack(tmp_path / "alone", tmp_path / "shards")
    return list_clips(tmp_path / "shards")


def test_the_index_says_what_the_clips_say(packed, tmp_path):
    heard = []
    for before, after in zip(list_clips(tmp_path / "alone"), packed):
        clip, summary = Clip(before), read_summary(after)
        assert read_summary(before) is None and summary.folder == after
        assert (len(summary), summary.face_model) == (len(clip), clip.face_model)
        assert summary.audio_length() == clip.audio_length()
        assert summary.person == person_of(before) == person_of(after)
        assert summary.heard == has_sound(before) == has_sound(after)
        for kind in ("mel", "whisper"):
            assert summary.stored_speech(kind) == clip.stored_speech(kind)
        heard.append(summary.heard and summary.stored_speech("mel") is not None)
    assert heard == [False, False, True, True]


def test_a_training_is_divided_without_a_look_into_the_clips(packed, tmp_path, monkeypatch):
    config = SplitConfig(validation=0.3, test=0)
    expected = split_clips(str(tmp_path / "alone"), config, usable=has_sound)
    monkeypatch.setattr("modules.clips.format.open_file", None)
    split = split_clips(str(tmp_path / "shards"), config, usable=has_sound)
    for side in ("train", "validation", "test"):
        assert [clip.name for clip in getattr(split, side)] == [clip.name for clip in getattr(expected, side)]


def test_shards_without_summaries_are_read_clip_by_clip(packed, tmp_path):
    (index,) = (tmp_path / "shards").glob("*.json")
    content = json.loads(index.read_text())
    del content["summaries"]
    index.write_text(json.dumps(content))
    for before, after in zip(list_clips(tmp_path / "alone"), list_clips(tmp_path / "shards")):
        assert read_summary(after) is None
        assert person_of(after) == person_of(before) and has_sound(after) == has_sound(before)


@pytest.mark.parametrize("wrong", [{}, {"frames": "many"}, {"features": {"mel": [3, "ear"]}}, {"features": 3}])
def test_a_damaged_summary_is_one_line(packed, tmp_path, wrong):
    (index,) = (tmp_path / "shards").glob("*.json")
    content = json.loads(index.read_text())
    name = packed[0].name
    content["summaries"][name] = content["summaries"][name] | wrong if wrong else {}
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged"):
        read_summary(packed[0])
