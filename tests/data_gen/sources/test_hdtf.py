from pathlib import Path

import pytest

from data_gen import run
from data_gen.sources.base import Window
from data_gen.sources.hdtf import HDTFConfig
from data_gen.videos import prepare
from modules.clips.format import Clip, list_clips, person_of
from modules.system.errors import UserError
from tests.conftest import ROOT
from tests.data_gen.sources.trees import HEIGHT, LEFT, SMALL, TOP, long_video, talk  # noqa: F401
from tests.data_gen.stand_in import FRAMES, SIZE

WDA = {
    "annotion_time": "AmyKlobuchar1.mp4 00:00.8-00:01.28 00:01.4-01:02 \nAdamSmith.mp4 00:00.8-00:01.28\n",
    "crop_wh": f"AmyKlobuchar1_0.mp4 {LEFT} {SIZE} {TOP} {SIZE}\nAdamSmith_0.mp4 {LEFT} {SIZE} {TOP} {SIZE}\n",
    "video_url": "AmyKlobuchar1 https://www.youtube.com/watch?v=EyHSdWDYm1M&t=8s\nAdamSmith https://youtu.be/GHJJxq0Qojc\n",
    "resolution": f"AmyKlobuchar1.mp4 {HEIGHT}\nAdamSmith.mp4 {HEIGHT}\n",
}


def settings(folder: Path, group: str = "WDA", **changes: str) -> HDTFConfig:
    lists = folder / "HDTF_dataset"
    lists.mkdir(exist_ok=True)
    for name, text in (WDA | changes).items():
        (lists / f"{group}_{name}.txt").write_text(text, encoding="utf-8")
    return HDTFConfig(annotations=str(lists), videos=str(folder / "raw"), folder=str(folder / "clips"), **SMALL)


@pytest.mark.parametrize("name", ["AmyKlobuchar1.mp4", "WDA_AmyKlobuchar1.mp4", "Speech [EyHSdWDYm1M].mp4"])
def test_a_clip_is_cut_by_its_times_and_cropped_at_any_resolution(tmp_path, talk, name):  # noqa: F811
    long_video(tmp_path / "raw" / name, talk, scale=2 if name.startswith("S") else 1)
    [report] = list(prepare(settings(tmp_path)))[1:]
    assert (report.name, report.clips, report.frames) == ("WDA_AmyKlobuchar1_0", 1, FRAMES)
    [folder] = list_clips(tmp_path / "clips")
    assert folder.name == "WDA_AmyKlobuchar1_0_000000" and person_of(folder) == "AmyKlobuchar"
    assert Clip(folder).source == f"HDTF WDA_AmyKlobuchar1_0, {name}, 0.80 to 1.28 s"
    missing = (tmp_path / "clips" / "missing.tsv").read_text(encoding="utf-8").splitlines()
    assert missing == [
        "WDA_AmyKlobuchar1_1\tno crop in WDA_crop_wh.txt",
        f"WDA_AdamSmith_0\tno video AdamSmith in {tmp_path / 'raw'}",
    ]


def test_radio_speakers_have_no_names_and_hours_are_read(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Radio11.mp4").touch()
    config = settings(
        tmp_path,
        "RD",
        annotion_time="Radio11.mp4 00:30-01:00 1:01:30-1:02:30\n",
        crop_wh="Radio11_0.mp4 412 599 0 599\nRadio11_1.mp4 557 478 0 478\n",
        video_url="",
        resolution="Radio11.mp4 720\n",
    )
    first, second = config.find().videos
    assert (first.start, first.stop, second.start, second.stop) == (30, 60, 3690, 3750)
    assert first.person == second.person == "Radio11" and first.window == Window(412, 0, 1011, 599, 720)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"annotion_time": "AdamSmith.mp4 00:08-00:02\n"}, "has the times 00:08-00:02"),
        ({"annotion_time": "AdamSmith.mp4 soon\n"}, "has the times soon"),
        ({"annotion_time": "/up.mp4 00:02-00:08\n"}, "no name of a clip"),
        ({"crop_wh": "AdamSmith_0.mp4 532 958 0\n"}, "must have 4 numbers"),
        ({"resolution": "AdamSmith.mp4 high\n"}, "must have 1 numbers"),
    ],
)
def test_lists_that_were_not_published_so_are_refused(tmp_path, changes, message):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "AdamSmith.mp4").touch()
    with pytest.raises(UserError, match=message):
        settings(tmp_path, **changes).find()


def test_the_config_of_the_repository_builds_and_asks_for_the_lists(tmp_path, capsys):
    path = ROOT / "configs" / "data" / "hdtf.yaml"
    assert run.main([str(path), f"videos={tmp_path}", f"annotations={tmp_path}"]) == 2
    assert "has no RD_annotion_time.txt" in capsys.readouterr().err
