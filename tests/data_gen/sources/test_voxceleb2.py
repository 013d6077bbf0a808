from pathlib import Path

import numpy as np
import pytest

from data_gen import run
from data_gen.sources.voxceleb2 import VoxCeleb2Config
from data_gen.videos import prepare
from modules.clips.format import Clip, list_clips, person_of
from modules.system.errors import UserError
from tests.conftest import ROOT
from tests.data_gen.sources.trees import SMALL, talk  # noqa: F401
from tests.data_gen.stand_in import FRAMES
from tests.media_files import write_sound
from tests.videos import tone, write_video

NAMES = ("id00012/21Uxsk56VDQ/00001", "id00012/2DLq_Kkc1r8/00017", "id00015/-3N2xOZ5gDY/00002")


@pytest.fixture
def tree(tmp_path) -> Path:
    """A tree of empty files."""
    for name in NAMES:
        for path in (tmp_path / "mp4" / f"{name}.mp4", tmp_path / "aac" / f"{name}.m4a"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def settings(folder: Path, **changes: str) -> VoxCeleb2Config:
    paths = {"videos": str(folder / "mp4"), "sounds": str(folder / "aac"), "folder": str(folder / "clips")}
    return VoxCeleb2Config(**paths | SMALL | changes)


def names(config: VoxCeleb2Config) -> list[str]:
    return [video.origin.removeprefix("VoxCeleb2 ") for video in config.find().videos]


def test_an_utterance_has_its_pictures_its_sound_and_its_person(tmp_path, talk):  # noqa: F811
    video, sound = tmp_path / "mp4" / f"{NAMES[0]}.mp4", tmp_path / "aac" / f"{NAMES[0]}.m4a"
    for path in (video, sound):
        path.parent.mkdir(parents=True)
    write_video(video, talk)
    samples = tone(FRAMES / 25).samples()
    write_sound(sound, samples.astype(np.float32), 16_000, "aac", "fltp")
    [report] = list(prepare(settings(tmp_path)))[1:]
    assert (report.clips, report.with_sound) == (1, 1)
    [folder] = list_clips(tmp_path / "clips")
    assert folder.name == "id00012_21Uxsk56VDQ_00001_000000" and person_of(folder) == "id00012"
    clip = Clip(folder)
    assert clip.source == "VoxCeleb2 id00012/21Uxsk56VDQ/00001, 0.00 to 0.48 s"
    assert np.sqrt((clip.audio() ** 2).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_the_whole_tree_is_found_without_a_list(tree):
    (tree / "mp4" / "other" / "21Uxsk56VDQ").mkdir(parents=True)
    (tree / "mp4" / "other" / "21Uxsk56VDQ" / "00001.mp4").touch()
    assert names(settings(tree)) == list(NAMES)


@pytest.mark.parametrize(
    "text, side, found",
    [
        ("id00012\n", "", NAMES[:2]),
        (f"id00015 {NAMES[2]}.wav\n", "", NAMES[2:]),
        (f"{NAMES[1]}.m4a\nid00015\n", "", NAMES[1:]),
        (
            "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00015 ,n15 ,f ,test\n",
            "dev",
            NAMES[:2],
        ),
        (
            "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00015 ,n15 ,f ,test\n",
            "test",
            NAMES[2:],
        ),
    ],
)
def test_a_list_says_which_utterances_are_taken(tree, text, side, found):
    (tree / "list.txt").write_text(text, encoding="utf-8")
    assert names(settings(tree, only=str(tree / "list.txt"), side=side)) == list(found)


def test_what_is_listed_and_not_there_is_missing(tree):
    (tree / "aac" / f"{NAMES[0]}.m4a").unlink()
    (tree / "mp4" / f"{NAMES[2]}.mp4").unlink()
    (tree / "list.txt").write_text("id00012\nid00015\nid00099/21Uxsk56VDQ/00003\n", encoding="utf-8")
    found = settings(tree, only=str(tree / "list.txt")).find()
    assert [video.name for video in found.videos] == ["id00012_2DLq_Kkc1r8_00017"]
    assert dict(found.missing) == {
        "id00012_21Uxsk56VDQ_00001": f"no {tree / 'aac' / NAMES[0]}.m4a",
        "id00015": f"no videos in {tree / 'mp4' / 'id00015'}",
        "id00099_21Uxsk56VDQ_00003": f"no {tree / 'mp4' / 'id00099/21Uxsk56VDQ/00003'}.mp4",
    }


def test_a_list_of_nobody_an_empty_tree_and_a_side_without_a_list_are_refused(tree):
    (tree / "list.txt").write_text("id00012 ,n000012 ,m ,dev\n", encoding="utf-8")
    with pytest.raises(UserError, match="whose line ends in test"):
        settings(tree, only=str(tree / "list.txt"), side="test").find()
    with pytest.raises(UserError, match="no id/video/utterance.mp4"):
        settings(tree, videos=str(tree)).find()
    with pytest.raises(ValueError, match="side is dev without a list"):
        settings(tree, side="dev")


def test_the_config_of_the_repository_builds_and_asks_for_the_tree(tmp_path, capsys):
    path = ROOT / "configs" / "data" / "voxceleb2.yaml"
    assert run.main([str(path), f"videos={tmp_path / 'none'}"]) == 2
    assert "set videos= to the root of the tree" in capsys.readouterr().err
