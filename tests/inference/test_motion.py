import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.motion import (
    Drawing,
    Motion,
    NaturalPose,
    PeriodicBlinks,
    natural_pose,
    orbit_pose,
    periodic_blink,
    still_pose,
)
from modules.system.errors import UserError


def some_motion(frames: int = 5) -> Motion:
    generator = torch.Generator().manual_seed(0)
    return Motion(*(torch.rand(frames, width, generator=generator) for width in (64, 3, 3, 1)), face_model="procedural")


@pytest.mark.parametrize("name", ["a motion.json", "Bewegung ä.npz"])
def test_a_saved_motion_comes_back(tmp_path, name):
    motion = some_motion()
    motion.save(tmp_path / "new folder" / name)
    again = Motion.load(tmp_path / "new folder" / name)
    assert again.face_model == "procedural"
    for field in ("expression", "euler", "translation", "blink"):
        torch.testing.assert_close(getattr(again, field), getattr(motion, field), atol=1e-5, rtol=0)


def test_a_motion_is_cut_and_joined_like_a_list():
    motion = replace(some_motion(6), relative=True, smoothed=True)
    again = motion[:2] + motion[2:]
    assert len(motion[1:3]) == 2 and motion[1:3].relative and again.smoothed
    for field in ("expression", "euler", "translation", "blink"):
        assert torch.equal(getattr(again, field), getattr(motion, field))
    assert not (motion + replace(motion, smoothed=False)).smoothed
    for number, row in ((3, motion[3]), (5, motion[-1])):
        assert len(row) == 1 and torch.equal(row.euler, motion.euler[number : number + 1]) and row.relative
    assert len(list(motion)) == 6 and torch.equal(sum(list(motion)[1:], motion[0]).blink, motion.blink)
    with pytest.raises(IndexError):
        motion[6]
    with pytest.raises(UserError, match="no frames"):
        motion[6:]
    with pytest.raises(UserError, match="cannot be joined"):
        motion + replace(motion, relative=False)


def test_what_a_motion_says_of_its_pose_is_kept_in_its_file(tmp_path):
    for name in ("m.json", "m.npz"):
        replace(some_motion(), relative=True, smoothed=True).save(tmp_path / name)
        again = Motion.load(tmp_path / name)
        assert again.relative and again.smoothed
    content = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    del content["relative"], content["smoothed"]  # as earlier versions wrote it
    (tmp_path / "m.json").write_text(json.dumps(content), encoding="utf-8")
    assert not Motion.load(tmp_path / "m.json").relative
    assert some_motion().with_pose(*still_pose(5)).relative


def test_a_json_motion_can_be_edited_by_hand(tmp_path):
    some_motion().save(tmp_path / "m.json")
    content = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    content["blink"][2][0] = 1.0
    (tmp_path / "m.json").write_text(json.dumps(content), encoding="utf-8")
    assert Motion.load(tmp_path / "m.json").blink[2] == 1.0


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"format": "other"},
        {"fps": 30},
        {"euler": [[0, 0]]},
        {"expression": "x"},
        {"expression": [[float("nan")] * 64]},
        {"expression": []},
        {"blink": [[True]]},
    ],
)
def test_a_wrong_motion_file_is_refused_in_one_line(tmp_path, damage):
    some_motion(1).save(tmp_path / "m.json")
    content = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    (tmp_path / "m.json").write_text(json.dumps(content | damage), encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        Motion.load(tmp_path / "m.json")
    assert "\n" not in str(refusal.value)


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not an archive", encoding="utf-8")
    for name in ("absent.json", "text.npz"):
        with pytest.raises(UserError, match="motion file"):
            Motion.load(tmp_path / name)


def test_faces_that_the_original_fitted_are_a_motion(tmp_path):
    random = np.random.default_rng(0)
    fitted = {
        name: random.normal(size=size).astype(np.float32)
        for name, size in (("id", (1, 80)), ("exp", (7, 64)), ("euler", (7, 3)), ("trans", (7, 3)))
    }
    np.save(tmp_path / "clip_coeff_fit_mp.npy", fitted, allow_pickle=True)
    motion = Motion.load(tmp_path / "clip_coeff_fit_mp.npy")
    assert len(motion) == 7 and motion.face_model == "bfm" and float(motion.blink.abs().max()) == 0
    for ours, theirs in (("expression", "exp"), ("euler", "euler"), ("translation", "trans")):
        assert torch.equal(getattr(motion, ours), torch.from_numpy(fitted[theirs]))


def test_an_unknown_ending_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=".json or .npz"):
        some_motion().save(tmp_path / "m.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, step", [("m.json", "inference.motion.json.dumps"), ("m.npz", "inference.motion.np.savez_compressed")]
)
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, name, step):
    def full(*values: object, **arrays: object) -> None:
        raise OSError("No space left on device")

    some_motion(3).save(tmp_path / name)
    monkeypatch.setattr(step, full)
    with pytest.raises(UserError, match="cannot be written .No space left on device.; choose another place"):
        some_motion(5).save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name] and len(Motion.load(tmp_path / name)) == 3


def test_a_head_in_orbit_starts_at_rest_and_looks_to_all_sides_smoothly():
    euler, translation = orbit_pose(250)
    assert not euler[0].any() and not translation.any() and not euler[:, 2].any()
    pitch, yaw = torch.rad2deg(euler[50:, 0]), torch.rad2deg(euler[50:, 1])
    assert (float(yaw.max()), float(-yaw.min())) == pytest.approx((20, 20), abs=0.1)
    assert (float(pitch.max()), float(-pitch.min())) == pytest.approx((8, 8), abs=0.1)
    assert torch.allclose((yaw / 20) ** 2 + (pitch / 8) ** 2, torch.ones(200), atol=1e-4)
    assert float(torch.rad2deg(euler.diff(dim=0)).abs().max()) < 2.5  # degrees a frame


def test_natural_pose_starts_at_rest_moves_gently_and_follows_its_seed():
    first, again, other = (natural_pose(250, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    euler, translation = first
    assert torch.equal(euler[0], torch.zeros(3)) and torch.equal(translation[0], torch.zeros(3))
    assert 0.01 < float(euler.abs().max()) < 0.3
    assert float(euler.diff(dim=0).abs().max()) < 0.02  # radians a frame
    assert torch.equal(euler, again[0]) and not torch.equal(euler, other[0])
    assert all(torch.equal(part, torch.zeros(250, 3)) for part in still_pose(250))


def test_blinks_are_short_complete_and_start_after_two_seconds():
    blink = periodic_blink(500, torch.Generator().manual_seed(0))[:, 0]
    assert float(blink[:50].max()) == 0 and 0.95 < float(blink.max()) <= 1
    closed = (blink > 0).long()
    starts = int((closed.diff() == 1).sum())
    assert 3 <= starts <= 5 and int(closed.sum()) < starts * 12


def test_pose_and_blinks_of_any_stretch_of_time_are_those_of_the_whole():
    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    whole = (*natural_pose(400, seeded(1)), periodic_blink(400, seeded(2)))
    pose, blinks = NaturalPose(seeded(1)), PeriodicBlinks(seeded(2))
    for first, last in ((0, 4), (1, 60), (57, 58), (53, 181), (178, 400)):
        for part, all_of_it in zip((*pose.at(first, last - first), blinks.at(first, last - first)), whole, strict=True):
            assert torch.equal(part, all_of_it[first:last])
    assert float(whole[2][178:].max()) > 0.9


def test_every_seed_draws_lips_pose_and_blinks_of_its_own():
    drawn = [
        tuple(torch.rand(1, generator=generator).item() for generator in vars(Drawing.of_seed(seed)).values())
        for seed in (0, 1, 2**63 - 1, 0)
    ]
    assert drawn[0] == drawn[3] and len({number for row in drawn for number in row}) == 9


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("expression", 1e30, "row 2 of expression holds 1e.30"),
        ("expression", 10**400, "expression"),
        ("euler", 30.0, "row 2 of euler holds 30; values must lie in -6.3 to 6.3"),
        ("translation", float("nan"), "row 2 of translation holds nan"),
        ("translation", float("-inf"), "row 2 of translation holds -inf"),
        ("blink", 2.0, "row 2 of blink"),
        ("euler", "0.5", "row 2 of euler holds '0.5', which is no number"),
        ("euler", None, "row 2 of euler holds None"),
    ],
)
def test_a_value_out_of_all_reason_is_refused_with_its_row(tmp_path, name, value, words):
    path = tmp_path / "m.json"
    some_motion(4).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content[name][2][0] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=words) as refusal:
        Motion.load(path)
    assert "m.json" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["expression", "euler"])
def test_a_number_in_place_of_rows_is_refused(tmp_path, name):
    path = tmp_path / "m.json"
    some_motion(4).save(path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {name: 0.75}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"m.json: motion: {name} has shape \(\); it must be"):
        Motion.load(path)


def test_the_byte_order_mark_of_an_editor_does_no_harm(tmp_path):
    some_motion(2).save(tmp_path / "m.json")
    content = (tmp_path / "m.json").read_bytes()
    (tmp_path / "m.json").write_bytes(b"\xef\xbb\xbf" + content)
    motion = Motion.load(tmp_path / "m.json")
    assert len(motion) == 2 and motion.expression.dtype == torch.float32
