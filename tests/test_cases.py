"""Small inputs that once failed, each with what is right; the folder of them is not part of the repository."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.audio_track import AudioTrack
from data_gen.faces import FaceLimits
from data_gen.sources.folder import VideoDataConfig
from data_gen.videos import prepare
from inference.pipeline import TalkingPortrait
from inference.run import main
from modules.clips.format import Clip, list_clips
from modules.media.audio import read_mono
from modules.media.rates import SAMPLE_RATE
from tests.conftest import SHARED
from tests.inference.conftest import checkpoint, pipeline  # noqa: F401  (fixtures: a tiny portrait, noise for pictures)

CASES = Path(os.environ.get("REAL3D_CASES", SHARED / "cases"))
SLOW = ("--driving",)  # options whose rows take a while: every picture is looked at


def rows() -> list:
    """Exit code, word in the output and arguments of each line of cases.tsv; one that skips where there is no file."""
    path = CASES / "cases.tsv"
    if not path.is_file():
        reason = f"no cases in {CASES}; set REAL3D_CASES"
        return [pytest.param(0, "", "", marks=pytest.mark.skip(reason=reason), id="none")]
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        pytest.param(int(code), word, options, id=options, marks=[pytest.mark.slow] * any(o in options for o in SLOW))
        for code, word, options in lines
    ]


@pytest.mark.parametrize("code, word, options", rows())
def test_a_case_ends_as_it_should(code, word, options, checkpoint, assets, tmp_path, capfd):  # noqa: F811
    arguments = [part.replace("CASES", str(CASES)) for part in shlex.split(options)]
    output = tmp_path / "out.mp4"
    try:
        found = main([*arguments, "--checkpoint", str(checkpoint), "--output", str(output), "--device", "cpu"])
    except SystemExit as error:  # of argparse
        found = error.code
    said = "".join(capfd.readouterr())
    assert found == code and word in said and output.is_file() == (code == 0), said


def case(name: str) -> Path:
    path = CASES / name
    if not path.is_file():
        pytest.skip(f"no {path}; set REAL3D_CASES")
    return path


def lag(wave: np.ndarray, other: np.ndarray, begin: float, end: float) -> float:
    """Seconds by which a part of `other` comes later in `wave`."""
    first, last = round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)
    shifts = range(max(-first, -4000), min(len(wave) - last, 4000))
    return max(shifts, key=lambda k: float(np.dot(other[first:last], wave[first + k : last + k]))) / SAMPLE_RATE


@pytest.mark.parametrize(
    "read",
    [lambda path: read_mono(path, SAMPLE_RATE), lambda path: AudioTrack(path).piece(0, 75)],
    ids=["read", "data"],
)
def test_sound_after_a_gap_is_where_its_twin_has_it(read):
    gap, whole = read(case("sound_gap.webm")), read(case("sound_whole.webm"))
    assert abs(lag(gap, whole, 1.6, 2.2)) <= 0.02 and abs(lag(gap, whole, 0.2, 0.55)) <= 0.02
    assert not gap[round(0.65 * SAMPLE_RATE) : round(1.35 * SAMPLE_RATE)].any()


@pytest.mark.slow
def test_the_head_of_a_pan_moves_alike_whatever_the_frame_rate(pipeline: TalkingPortrait, assets):  # noqa: F811
    steps = {
        rate: pipeline.motion_from_clip(case(f"pan_{rate}fps.mp4")).translation[:, 0].diff().abs() for rate in (25, 50)
    }
    for found in steps.values():
        assert len(found) == 24 and (found - 0.017).abs().max() < 0.005
    assert abs(float(steps[25].mean() - steps[50].mean())) < 0.001


@pytest.mark.slow
def test_a_head_keeps_its_angles_when_the_picture_changes_its_shape(pipeline: TalkingPortrait, assets):  # noqa: F811
    changed, twin = (
        pipeline.motion_from_clip(case(name)) for name in ("picture_shape_changes.webm", "sound_whole.webm")
    )
    off = torch.rad2deg(changed.euler - twin.euler).abs()
    assert len(changed) == len(twin) == 75 and off[:37].max() < 3 and off[38:].max() < 5


@pytest.mark.slow
def test_training_clips_of_such_files_are_whole(assets, tmp_path):
    names = ("sound_gap.webm", "sound_whole.webm", "picture_shape_changes.webm", "two_ts_joined.ts")
    (tmp_path / "raw").mkdir()
    for name in names:
        (tmp_path / "raw" / name).write_bytes(case(name).read_bytes())
    config = VideoDataConfig(
        videos=str(tmp_path / "raw"),
        folder=str(tmp_path / "clips"),
        face_model="procedural",
        size=128,
        shortest=0.5,
        workers=1,
        limits=FaceLimits(smallest_face=50),
    )
    made = {report.name: report for report in list(prepare(config))[1:]}
    clips = {path.name: Clip(path) for path in list_clips(tmp_path / "clips")}
    assert made["two_ts_joined"].frames == 60 and made["picture_shape_changes"].frames >= 60
    gap, whole = (clips[f"{name}_000000"].audio() for name in ("sound_gap", "sound_whole"))
    assert abs(lag(gap, whole, 1.6, 2.2)) <= 0.02
    twin = clips["sound_whole_000000"].face.euler
    before = clips["picture_shape_changes_000000"].face.euler
    assert len(before) < 45 and torch.rad2deg(before - twin[: len(before)]).abs().max() < 3
