"""Motions as ARKit curves: modes go to the curves of their name and come back; tables of others are read."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.arkit import CURVES, POSE, arkit_map
from inference.motion import Motion
from modules.face_models import load_face_model
from modules.procedural.head import EXPRESSIONS, expression_index, procedural_model
from modules.system.errors import UserError

WITHOUT_PARTNER = {"tongue_up", "brow_outer_up", *(f"detail_{number}" for number in range(len(EXPRESSIONS), 64))}
SHARED = [number for number, name in enumerate(EXPRESSIONS) if name not in WITHOUT_PARTNER]


def some_motion(generator: torch.Generator, modes: list[int], face_model: str = "procedural") -> Motion:
    expression = torch.zeros(9, 64)
    expression[:, modes] = 1.4 * torch.rand(9, len(modes), generator=generator) - 0.3
    pose = torch.randn(9, 6, generator=generator)
    return Motion(expression, 0.2 * pose[:, :3], pose[:, 3:], torch.rand(9, 1, generator=generator), face_model, True)


def one(mode: str, value: float) -> dict[str, float]:
    """The curves that are not 0 of one mode."""
    expression = np.zeros((1, 64))
    expression[0, expression_index(mode)] = value
    return {name: amount for name, amount in zip(CURVES, arkit_map("procedural").curves(expression)[0]) if amount}


def test_there_are_52_curves_once_each():
    assert len(CURVES) == len(set(CURVES)) == 52
    sided = [name for name in CURVES if name.endswith(("Left", "Right")) and name not in ("jawLeft", "jawRight")]
    assert {name.replace("Left", "Right") for name in sided} <= {*CURVES}


@pytest.mark.parametrize("name", ["m.csv", "m.arkit.json", "M.CSV"])
def test_a_round_trip_keeps_the_shared_modes_the_pose_and_the_blinks(tmp_path, generator, name):
    motion = some_motion(generator, SHARED)
    motion.save(tmp_path / name)
    again = Motion.load(tmp_path / name)
    for field in ("expression", "euler", "translation", "blink"):
        torch.testing.assert_close(getattr(again, field), getattr(motion, field), rtol=0, atol=1e-6)
    assert again.relative and again.face_model == "procedural" and again.expression.dtype == torch.float32
    assert not replace(motion, relative=False).arkit_curves()["headRelative"][0]
    again.save(tmp_path / f"second {name}")
    assert (tmp_path / f"second {name}").stat().st_size > 1000


def test_modes_without_a_partner_are_dropped_and_an_outer_brow_comes_back_as_a_whole_one(tmp_path, generator):
    others = [number for number in range(64) if number not in SHARED]
    assert len(others) == len(WITHOUT_PARTNER) == 37
    some_motion(generator, [number for number in others if number != expression_index("brow_outer_up")]).save(
        tmp_path / "m.csv"
    )
    assert Motion.load(tmp_path / "m.csv").expression.abs().max() < 1e-6
    assert one("brow_outer_up", 0.5) == {"browOuterUpLeft": 0.5, "browOuterUpRight": 0.5}
    assert one("brows_up", 0.5) == {**one("brow_outer_up", 0.5), "browInnerUp": 0.5}


def test_sides_are_the_person_s_own_and_two_ways_are_two_curves():
    model = procedural_model()
    left = model.expression_basis[..., expression_index("blink_left")].norm(dim=1)
    assert float((left * model.mean[:, 0]).sum()) > 0  # to the right of the picture
    assert one("blink_left", 1) == {"eyeBlinkLeft": 1}
    for mode, moved, first, second in (
        ("jaw_side", "skin", "jawLeft", "jawRight"),
        ("mouth_side", "skin", "mouthLeft", "mouthRight"),
    ):
        field = model.expression_basis[model.vertex_group(moved)][..., expression_index(mode)]
        assert float(field[:, 0].sum()) > 0  # to the person's left
        assert one(mode, 0.3) == {first: 0.3} and one(mode, -0.3) == {second: 0.3}
    eyes = model.vertex_group("eyeballs")
    front = eyes & (model.mean[:, 2] > model.mean[eyes][:, 2].quantile(0.8))
    assert (model.expression_basis[front][:, 0, expression_index("gaze_x")] > 0).all()
    assert one("gaze_x", 1) == {"eyeLookOutLeft": 1, "eyeLookInRight": 1}
    assert one("gaze_y", -0.5) == {"eyeLookDownLeft": 0.5, "eyeLookDownRight": 0.5}
    assert one("smile", -0.1) == {"mouthSmileLeft": -0.1, "mouthSmileRight": -0.1}


def test_blinks_lie_on_the_curves_of_the_lids(generator):
    motion = some_motion(generator, SHARED)
    curves = motion.arkit_curves()
    lid = motion.expression[:, expression_index("blink_right")] + motion.blink[:, 0]
    assert np.allclose(curves["eyeBlinkRight"], lid, atol=1e-6) and curves.keys() > {*POSE}


def table(path: Path, names: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def test_a_table_of_another_program_is_read_at_25_frames_a_second(tmp_path):
    names = ["Timecode", "BlendshapeCount", "time", "JawOpen", "MouthSmileLeft", "HeadYaw", "LeftEyeYaw"]
    rows = [["00:00:01:00", 61, 7 + k / 60, k / 60, 0.5, 0.1 * k / 60, 0] for k in range(61)]
    motion = Motion.load(table(tmp_path / "phone.csv", names, rows))
    jaw = motion.expression[:, expression_index("jaw_open")]
    assert len(motion) == 26 and not motion.relative
    assert torch.allclose(jaw, torch.arange(26) / 25, atol=1e-6) and torch.allclose(motion.euler[:, 1], 0.1 * jaw)
    assert torch.allclose(motion.expression[:, expression_index("smile")], torch.tensor(0.25))  # one side of two
    still = Motion.load(table(tmp_path / "jaw.csv", ["time", "jawOpen"], [[0, 1], [0.04, 0]]))
    assert still.relative and len(still) == 2 and not still.euler.any()


def test_json_of_another_rate_is_resampled(tmp_path):
    content = {"format": "real3d-arkit", "version": 1, "fps": 50, "curves": {"jawOpen": [0, 1, 0, 1, 0]}}
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert Motion.load(tmp_path / "m.json").expression[:, expression_index("jaw_open")].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "names, rows, words",
    [
        (["jawOpen"], [[1]], "among them time"),
        (["time", "jawOpen"], [], "a line a frame"),
        (["time", "jawOpenn"], [[0, 1]], "'jawOpenn' is no ARKit curve; did you mean jawOpen"),
        (["time", "wings"], [[0, 1]], "'wings' is no ARKit curve; leave it out"),
        (["time", "frame"], [[0, 1]], "holds no ARKit curves"),
        (["time", "jawOpen"], [[0, 1], [0.04]], "line 3 has 1 cells"),
        (["time", "jawOpen"], [[0, 1], [0.04, "wide"]], "row 1 of jawOpen holds 'wide'"),
        (["time", "jawOpen"], [[0, 1], [0.04, "nan"]], "row 1 of jawOpen holds 'nan'"),
        (["time", "jawOpen"], [[0, 1], [0, 1]], "row 1 is not later"),
        (["time", "jawOpen"], [[0, 1], [1e200, 1]], "span 1e+200 seconds"),
        (["time", "jawOpen"], [[0, 1], [0.04, 200]], "row 1 of expression holds 200"),
    ],
)
def test_a_table_that_cannot_be_is_one_line_that_names_the_place(tmp_path, names, rows, words):
    with pytest.raises(UserError) as refusal:
        Motion.load(table(tmp_path / "m.csv", names, rows))
    assert words in str(refusal.value) and "m.csv" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"version": 2}, "version 1"),
        ({"fps": "25"}, "fps is '25'"),
        ({"curves": {"jawOpen": [0, 1], "mouthClose": [0]}}, "rows"),
        ({"curves": {"jawOpen": 3}}, "jawOpen is no list"),
        ({"curves": {"jawOpen": [None]}}, "row 0 of jawOpen holds None"),
        ({"curves": {}}, "version 1"),
    ],
)
def test_json_that_cannot_be_is_one_line_that_names_the_place(tmp_path, change, words):
    content = {"format": "real3d-arkit", "version": 1, "fps": 25, "curves": {"jawOpen": [0, 1]}}
    (tmp_path / "m.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match="m.json") as refusal:
        Motion.load(tmp_path / "m.json")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="no motion file"):
        Motion.load(tmp_path / "gone.csv")


def test_the_ict_face_has_its_curves_by_name(tmp_path, generator, monkeypatch, assets):
    if not (assets / "ict_facekit.npz").is_file():
        pytest.skip(f"no ICT face model in {assets}; set REAL3D_ASSETS")
    names = load_face_model("ict").expression_names
    halves = {name for name in names if name.startswith(("browInnerUp", "cheekPuff"))}
    motion = some_motion(generator, [number for number, name in enumerate(names) if name not in halves], "ict")
    left, right = (names.index(f"browInnerUp_{side}") for side in "LR")
    motion.expression[:, [left, right]] = motion.expression[:, names.index("jawOpen")][:, None]
    motion.save(tmp_path / "m.csv")
    again = Motion.load(tmp_path / "m.csv", "ict")
    torch.testing.assert_close(again.expression, motion.expression, rtol=0, atol=1e-6)
    curves = motion.arkit_curves()
    smile = names.index("mouthSmile_L")
    assert np.allclose(curves["mouthSmileLeft"], motion.expression[:, smile], atol=1e-6)
    assert np.allclose(curves["browInnerUp"], curves["jawOpen"], atol=1e-6)
    to_other = Motion.load(tmp_path / "m.csv", "procedural").expression[:, expression_index("jaw_open")]
    assert torch.allclose(to_other, motion.expression[:, names.index("jawOpen")], atol=1e-6)


def test_a_face_model_without_names_has_no_curves(tmp_path, monkeypatch):
    nameless = procedural_model()
    monkeypatch.setattr("inference.arkit.load_face_model", lambda name: nameless)
    motion = replace(some_motion(torch.Generator(), [0]), face_model="bfm")
    with pytest.raises(UserError, match="modes of the bfm face model have no names.*use .json or .npz"):
        motion.save(tmp_path / "m.csv")
    assert list(tmp_path.iterdir()) == []
