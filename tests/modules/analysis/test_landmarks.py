import json
import weakref
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from modules.analysis.landmarks import combine, detect, detect_clip, find_faces
from modules.face3d.landmark_sets import EYES, MOUTH
from modules.media.images import read_picture
from modules.media.video_reader import open_video
from modules.system.errors import UserError

REFUSALS = {
    "no_face_coffee.png": "no face",
    "two_faces_couple_rgba.png": "2 faces of similar size",
    "dog_detected_as_face.jpg": "person",
    "occluded_balaclava.jpg": "covered",
    "face_cut_by_border.jpg": "cut off",
}


@pytest.fixture
def man(media: Path, assets: Path) -> np.ndarray:
    return read_picture(media / "portraits" / "front_suit_man.png")


def pasted(small: np.ndarray, side: int, shape: tuple[int, int], left: int, top: int) -> np.ndarray:
    picture = np.full((*shape, 3), 90, np.uint8)
    picture[top : top + side, left : left + side] = cv2.resize(small, (side, side), interpolation=cv2.INTER_AREA)
    return picture


def test_every_portrait_is_accepted_where_the_reference_has_its_face(media: Path, assets: Path):
    expected = json.loads((media / "expected.json").read_text(encoding="utf-8"))["images"]
    portraits = sorted((media / "portraits").iterdir())
    assert len(portraits) == 16
    for path in portraits:
        landmarks = detect(read_picture(path), path.name)
        assert landmarks.shape == (478, 2)
        assert np.ptp(landmarks[:, 1]) == pytest.approx(expected[f"portraits/{path.name}"]["face_height"], abs=0.01)


@pytest.mark.parametrize("name", REFUSALS)
def test_unsuitable_pictures_are_refused_with_the_reason(media: Path, assets: Path, name: str):
    with pytest.raises(UserError, match=REFUSALS[name]) as caught:
        detect(read_picture(media / "reject" / name), name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_one_of_two_faces_can_be_chosen_from_the_left(media: Path, assets: Path):
    couple = read_picture(media / "reject" / "two_faces_couple_rgba.png")
    left, right = (detect(couple, face_index=i) for i in (0, 1))
    assert left[:, 0].mean() < right[:, 0].mean()
    with pytest.raises(UserError, match="--face 2 is not one of"):
        detect(couple, face_index=2)


def test_one_of_two_people_is_followed_through_a_clip(media: Path, assets: Path):
    def frames(name: str) -> list[np.ndarray]:
        return [cv2.resize(frame, (360, 360)) for frame in islice(open_video(media / "driving" / name)[1], 8)]

    people = [frames("talk_man_german_25fps.mp4"), frames("talk_woman_25fps.mp4")]
    both = [np.hstack(pair) for pair in zip(*people)]
    for number, alone in enumerate(people):
        followed = detect_clip(iter(both), face_index=number) * (2, 1) - (number, 0)
        assert np.abs(followed - detect_clip(iter(alone))).mean() < 0.01  # of the width of one picture
    for index, words in ((None, "choose one with --driving-face"), (2, "--driving-face 2 is not one of")):
        with pytest.raises(UserError, match=words):
            detect_clip(iter(both[:2]), face_index=index)


def test_a_small_bystander_does_not_matter(man: np.ndarray):
    picture = np.full((512, 900, 3), 90, np.uint8)
    picture[:, :512] = man
    picture[100:300, 600:800] = cv2.resize(man, (200, 200), interpolation=cv2.INTER_AREA)
    assert len(find_faces(picture)) == 2
    assert detect(picture)[:, 0].mean() * 900 < 512


def test_a_face_too_low_for_the_detector_is_found_in_tiles(man: np.ndarray):
    picture = pasted(man, 200, (1500, 2000), 1210, 730)
    assert len(find_faces(picture)) == 0
    points = detect(picture) * (2000, 1500)
    expected = detect(man) * 200 + (1210, 730)
    assert np.abs(points - expected).mean() < 4


def test_a_face_of_few_pixels_is_refused_with_the_number(man: np.ndarray):
    with pytest.raises(UserError, match=r"only \d+ pixels wide; use a photo whose face is at least 64"):
        detect(pasted(man, 110, (220, 220), 50, 50))


def test_a_face_on_its_side_is_refused(man: np.ndarray):
    with pytest.raises(UserError, match="upright"):
        detect(np.rot90(man).copy())


@pytest.mark.parametrize("colour", [(150, 190, 230), (240, 240, 240), (20, 20, 20)])
def test_a_face_behind_a_cloth_mask_is_refused(man: np.ndarray, colour: tuple[int, int, int]):
    points = (detect(man) * 512).astype(np.int32)
    lower = [234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 195]
    masked = cv2.fillConvexPoly(man.copy(), cv2.convexHull(points[lower]), colour)
    with pytest.raises(UserError, match="covered"):
        detect(masked)


def test_detection_says_nothing_on_stderr(man: np.ndarray, capfd: pytest.CaptureFixture):
    detect(man)
    assert capfd.readouterr().err == ""


def test_eyes_and_mouth_come_from_single_pictures_the_rest_from_tracking():
    combined = combine(np.ones((2, 478, 2)), np.zeros((2, 478, 2)))
    chosen = np.flatnonzero(combined[0, :, 0])
    assert set(chosen) == set(EYES + MOUTH)
    assert {33, 263, 13, 14, 61, 291} <= set(chosen) and not {1, 10, 152, 468} & set(chosen)


def test_a_clip_follows_the_face_and_bridges_gaps(man: np.ndarray):
    small = cv2.resize(man, (256, 256), interpolation=cv2.INTER_AREA)
    frames = [np.roll(small, 2 * t, axis=1) for t in range(8)]
    frames[0] = frames[5] = np.zeros_like(small)
    landmarks = detect_clip(iter(frames))
    assert landmarks.shape == (8, 478, 2)
    np.testing.assert_array_equal(landmarks[0], landmarks[1])
    np.testing.assert_array_equal(landmarks[5], landmarks[4])
    travelled = (landmarks[7] - landmarks[1])[:, 0].mean() * 256
    assert travelled == pytest.approx(12, abs=2)


def test_a_clip_may_change_the_size_of_its_frames(man: np.ndarray):
    wide = cv2.copyMakeBorder(man, 0, 0, 300, 300, cv2.BORDER_REPLICATE)
    landmarks = detect_clip([man] * 4 + [wide] * 4)
    pixels = landmarks * np.array([man.shape[1::-1]] * 4 + [wide.shape[1::-1]] * 4)[:, None]
    pixels[4:, :, 0] -= 300
    assert np.abs(pixels - pixels[3]).max() < 0.03 * np.ptp(pixels[3], axis=0).max()


def test_a_clip_is_read_one_frame_at_a_time(man: np.ndarray):
    alive: list[weakref.ref] = []

    def frames():
        for _ in range(6):
            frame = man.copy()
            alive.append(weakref.ref(frame))
            yield frame
            del frame
            assert sum(reference() is not None for reference in alive) <= 1

    assert len(detect_clip(frames())) == 6


@pytest.mark.parametrize("frames, words", [(0, "no frames"), (30, "first second")])
def test_a_clip_without_a_face_is_refused(assets: Path, frames: int, words: str):
    with pytest.raises(UserError, match=words):
        detect_clip((np.zeros((96, 96, 3), np.uint8) for _ in range(frames)), "empty.mp4")


def test_a_missing_model_is_named_with_the_command_that_gets_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    monkeypatch.setattr("modules.system.assets.DEFAULT_FOLDER", tmp_path)
    with pytest.raises(UserError, match="3 files are missing .*python -m scripts.assets fetch photo"):
        find_faces(np.zeros((64, 64, 3), np.uint8))


def test_a_damaged_model_is_named(tmp_path: Path, monkeypatch):
    (tmp_path / "face_landmarker.task").write_bytes(b"half a download")
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    with pytest.raises(UserError, match="damaged"):
        find_faces(np.zeros((64, 64, 3), np.uint8))


def masked(man: np.ndarray) -> np.ndarray:
    points = (find_faces(man)[0] * 512).astype(np.int32)
    lower = [234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 195]
    return cv2.fillConvexPoly(man.copy(), cv2.convexHull(points[lower]), (150, 190, 230))


def test_anyway_a_covered_face_is_mentioned_and_used(man: np.ndarray, capsys: pytest.CaptureFixture):
    assert detect(masked(man), "anna.jpg", anyway=True).shape == (478, 2)
    said = capsys.readouterr().err
    assert said.startswith("note: ") and "covered" in said and "anna.jpg" in said and said.count("\n") == 1


def test_one_covered_frame_of_a_clip_decides_nothing_and_several_do(man: np.ndarray, capsys: pytest.CaptureFixture):
    covered = masked(man)
    assert len(detect_clip(iter([covered] + [man] * 9), "hand.mp4")) == 10
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="mouth in frame 0 of mask.mp4 is covered.*limit"):
        detect_clip(iter([covered] * 30), "mask.mp4")
    assert len(detect_clip(iter([covered] * 7), "mask.mp4", anyway=True)) == 7
    assert "frame 0 of mask.mp4" in capsys.readouterr().err
