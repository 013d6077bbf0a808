from pathlib import Path

import pytest

from data_gen.sources.folder import VideoDataConfig, find_videos
from modules.system.errors import UserError


def test_videos_are_found_in_folders_by_patterns_and_by_name(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("a/x.mp4", "b/y.MOV", "b/notes.txt", ".hidden/z.mp4"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).touch()
    assert [video.name for video in find_videos(str(raw))] == ["a_x", "b_y"]
    assert [video.name for video in find_videos(str(raw / "*" / "*.mp4"))] == ["a_x"]
    assert [video.name for video in find_videos(str(raw / "a" / "x.mp4"))] == ["x"]
    (raw / "a_x.mkv").touch()
    with pytest.raises(UserError, match="same name"):
        find_videos(str(raw))


def names(videos: Path | str) -> list[str]:
    return [video.name for video in find_videos(str(videos))]


def test_linked_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    raw, disk = tmp_path / "raw", tmp_path / "disk"
    for folder in (raw / "own", disk / "vox" / "deep"):
        folder.mkdir(parents=True)
    for path in (raw / "own" / "a.mp4", disk / "vox" / "b.mp4", disk / "vox" / "deep" / "c.mp4"):
        path.write_bytes(b"x")
    (raw / "vox").symlink_to(disk / "vox")
    (raw / "again").symlink_to(raw / "own")
    (raw / "own" / "up").symlink_to(raw)
    (disk / "vox" / "deep" / "circle").symlink_to(disk)
    assert names(raw) == names(raw / "**" / "*.mp4") == ["own_a", "vox_b", "vox_deep_c"]
    assert names(raw / "vox") == ["b", "deep_c"] and names(raw / "v*" / "*") == ["vox_b"]


@pytest.mark.parametrize("name", ["talk [1080p]", "what?", "*", "2024", "[!a]", "ä ö"])
def test_a_folder_that_exists_is_no_pattern(tmp_path, name):
    (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / name / "in" / "a.mp4").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.mp4").write_bytes(b"x")
    assert names(tmp_path / name) == ["in_a"] and names(tmp_path / name / "*" / "*.mp4") == ["in_a"]
    assert names(tmp_path / name / "in" / "a.mp4") == ["a"]


def test_clips_that_were_prepared_in_the_folder_of_the_videos_are_not_read_as_videos(tmp_path):
    (tmp_path / "clips" / "a_000000").mkdir(parents=True)
    for path in ("a.mp4", "clips/a_000000/video.mp4", "clips/a_000000/clip.npz", ".trash/c.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    assert names(tmp_path) == names(tmp_path / "**") == ["a"]


@pytest.mark.parametrize(
    "pattern, person",
    [("", ""), (r"^(id\d+)_", "id07"), (r"^id\d+", "id07"), (r"^x(.*)$", ""), (r"^(x)?id", "")],
)
def test_the_name_of_a_video_names_the_person(pattern, person):
    assert VideoDataConfig(videos="raw", person=pattern).person_in("id07_abc_00001") == person


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no regular expression"):
        VideoDataConfig(videos="raw", person="(id")
