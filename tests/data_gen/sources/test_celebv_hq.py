import json
from pathlib import Path

import numpy as np
import pytest

from data_gen import run
from data_gen.sources.celebv_hq import CelebVHQConfig
from data_gen.videos import prepare, summary
from modules.clips.format import Clip, list_clips, person_of
from modules.clips.splits import SplitConfig, split_clips
from modules.system.config import load_yaml
from modules.system.errors import UserError
from tests.conftest import ROOT
from tests.data_gen.sources.trees import HEIGHT, LEFT, SMALL, START, STOP, TOP, WIDTH, long_video, talk  # noqa: F401
from tests.data_gen.stand_in import FRAMES, SIZE

BOX = {
    "top": TOP / HEIGHT,
    "bottom": (TOP + SIZE) / HEIGHT,
    "left": LEFT / WIDTH,
    "right": (LEFT + SIZE) / WIDTH,
}


def entry(person: str, **changes: object) -> dict:
    """A clip as the published list has it."""
    seconds = {"start_sec": START, "end_sec": STOP}
    return {"ytb_id": person, "duration": seconds, "bbox": BOX, "attributes": {}, "version": "v0.1"} | changes


def settings(folder: Path, clips: dict) -> CelebVHQConfig:
    path = folder / "celebvhq_info.json"
    path.write_text(json.dumps({"meta_info": {}, "clips": clips}), encoding="utf-8")
    return CelebVHQConfig(annotations=str(path), videos=str(folder / "raw"), folder=str(folder / "clips"), **SMALL)


def test_a_published_clip_is_cut_cropped_and_named_by_its_video(tmp_path, talk):  # noqa: F811
    long_video(tmp_path / "raw" / "A talk [M2Ohb0FAaJU].mp4", talk)
    config = settings(tmp_path, {"M2Ohb0FAaJU_1": entry("M2Ohb0FAaJU"), "_0tf2n3rlJU_0": entry("_0tf2n3rlJU")})
    [report] = list(prepare(config))[1:]
    assert (report.clips, report.frames, report.with_sound, report.refused) == (1, FRAMES, 1, ())
    [folder] = list_clips(tmp_path / "clips")
    clip = Clip(folder)
    assert folder.name == "M2Ohb0FAaJU_1_000000" and person_of(folder) == "M2Ohb0FAaJU"
    assert clip.source == "CelebV-HQ M2Ohb0FAaJU_1, YouTube M2Ohb0FAaJU, 0.80 to 1.28 s"
    assert clip.licence == "of the test" and len(clip) == FRAMES
    assert np.sqrt((clip.audio() ** 2).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.05)  # the tone, whole
    assert (tmp_path / "clips" / "missing.tsv").read_text(encoding="utf-8") == (
        f"_0tf2n3rlJU_0\tno video of _0tf2n3rlJU in {tmp_path / 'raw'}\n"
    )
    assert summary(config).endswith(f"1 with sound; 1 missing, see {tmp_path / 'clips' / 'missing.tsv'}")


def test_a_video_that_comes_later_is_no_longer_missing(tmp_path, talk):  # noqa: F811
    long_video(tmp_path / "raw" / "M2Ohb0FAaJU.mp4", talk)
    config = settings(tmp_path, {"M2Ohb0FAaJU_1": entry("M2Ohb0FAaJU"), "_0tf2n3rlJU_0": entry("_0tf2n3rlJU")})
    assert next(prepare(config)) == 1
    list(prepare(config))
    long_video(tmp_path / "raw" / "_0tf2n3rlJU.mp4", talk)
    assert [report.name for report in list(prepare(config))[1:]] == ["_0tf2n3rlJU_0"]
    assert (tmp_path / "clips" / "missing.tsv").read_text(encoding="utf-8") == ""


def test_clips_of_one_video_stay_on_one_side(tmp_path, talk):  # noqa: F811
    names = ["aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc"]
    for name in names:
        long_video(tmp_path / "raw" / f"{name}.mp4", talk)
    list(prepare(settings(tmp_path, {f"{name}_{k}": entry(name) for name in names for k in (0, 1)})))
    split = split_clips(str(tmp_path / "clips"), SplitConfig(validation=0.4, test=0.2))
    sides = [{person_of(clip) for clip in side} for side in (split.train, split.validation, split.test)]
    assert sum(len(side) for side in sides) == 3 and {*names} == set().union(*sides)


def test_a_part_behind_the_end_of_the_download_is_a_line(tmp_path, talk):  # noqa: F811
    long_video(tmp_path / "raw" / "M2Ohb0FAaJU.mp4", talk)
    late = entry("M2Ohb0FAaJU", duration={"start_sec": 81.62, "end_sec": 86.17})
    [report] = list(prepare(settings(tmp_path, {"M2Ohb0FAaJU_1": late})))[1:]
    assert report.clips == 0 and report.refused[0].reason == "M2Ohb0FAaJU.mp4 ends before 81.62 s"


@pytest.mark.parametrize(
    "clips, message",
    [
        ({}, "has no 'clips'"),
        ({"/up": entry("M2Ohb0FAaJU")}, "is no name of a clip"),
        ({"a": {"ytb_id": "M2Ohb0FAaJU"}}, "lacks a number .'duration'"),
        ({"a": entry("M2Ohb0FAaJU", duration={"start_sec": 3, "end_sec": 2})}, "seconds 3.0 to 2.0"),
        ({"a": entry("M2Ohb0FAaJU", bbox=BOX | {"right": 300})}, "box .*300"),
    ],
)
def test_a_list_that_was_not_published_so_is_refused(tmp_path, clips, message):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "M2Ohb0FAaJU.mp4").touch()
    with pytest.raises(UserError, match=message):
        settings(tmp_path, clips).find()


def test_the_config_of_the_repository_builds_and_asks_for_the_list(tmp_path, capsys):
    path = ROOT / "configs" / "data" / "celebv_hq.yaml"
    assert load_yaml(path)["source"] == "celebv_hq"
    (tmp_path / "a.mp4").touch()
    assert run.main([str(path), f"videos={tmp_path}", f"annotations={tmp_path / 'no.json'}"]) == 2
    assert "set annotations= to celebvhq_info.json" in capsys.readouterr().err
