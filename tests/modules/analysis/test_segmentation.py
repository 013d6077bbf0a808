from pathlib import Path

import numpy as np
import pytest

from modules.analysis.landmarks import detect
from modules.analysis.segmentation import (
    BACKGROUND,
    BODY_SKIN,
    CLOTHES,
    FACE_SKIN,
    HAIR,
    classes_from_person_and_hair,
    part_image,
    segment,
    shows_part,
)
from modules.face3d.landmark_sets import FACE_OVAL
from modules.media.images import read_picture


@pytest.fixture
def canonical(assets: Path) -> np.ndarray:
    """An upright face of 200 x 240 pixels in the middle of 512 x 512, as fractions (x, y): [478, 2]."""
    if not (assets / "mp_canonical_face.npz").is_file():
        pytest.skip(f"no mp_canonical_face.npz in {assets}")
    with np.load(assets / "mp_canonical_face.npz") as arrays:
        points = arrays["v"][:, :2] * (1, -1)
    points = (points - points.min(0)) / np.ptp(points, axis=0)
    points = np.concatenate([points, np.repeat(points[:1], 10, axis=0)])
    return points * (200 / 512, 240 / 512) + (156 / 512, 130 / 512)


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, person and hair probabilities of a plain figure: skin face and neck, dark hair, blue shirt."""
    rows, columns = np.mgrid[:512, :512]
    skin, hair_colour, shirt, wall = (210, 160, 130), (40, 30, 25), (40, 60, 150), (190, 190, 190)
    face = ((columns - 256) / 105) ** 2 + ((rows - 250) / 125) ** 2 < 1
    hair = (((columns - 256) / 125) ** 2 + ((rows - 190) / 120) ** 2 < 1) & (rows < 190)
    neck = (np.abs(columns - 256) < 55) & (rows > 300) & (rows < 430)
    chest = (rows >= 430) & (np.abs(columns - 256) < 200)
    picture = np.full((512, 512, 3), wall, np.uint8)
    for mask, colour in ((neck, skin), (chest, shirt), (face, skin), (hair, hair_colour)):
        picture[mask] = colour
    person = (face | neck | chest | hair).astype(np.float32)
    return picture, person, hair.astype(np.float32)


def test_a_drawn_figure_falls_into_its_parts(canonical: np.ndarray):
    picture, person, hair = drawn()
    classes = classes_from_person_and_hair(picture, canonical, person, hair)
    for row, column, expected in (
        (20, 20, BACKGROUND),
        (90, 256, HAIR),
        (250, 256, FACE_SKIN),
        (400, 256, BODY_SKIN),
        (480, 256, CLOTHES),
        (480, 100, CLOTHES),
    ):
        assert classes[row, column] == expected, (row, column)


def test_the_classes_of_a_mirrored_figure_are_mirrored(canonical: np.ndarray):
    picture, person, hair = drawn()
    classes = classes_from_person_and_hair(picture, canonical, person, hair)
    mirrored = classes_from_person_and_hair(picture[:, ::-1].copy(), canonical, person[:, ::-1], hair[:, ::-1])
    assert (mirrored[:, ::-1] != classes).mean() < 0.01


def test_strands_that_touch_no_head_are_not_hair(canonical: np.ndarray):
    picture, person, hair = drawn()
    hair = hair.copy()
    hair[460:500, 100:140] = 1
    classes = classes_from_person_and_hair(picture, canonical, person, hair)
    assert (classes[465:495, 105:135] == CLOTHES).all()


def test_shoulders_beside_a_chin_at_the_lower_edge_are_torso(canonical: np.ndarray):
    picture, person, hair = (array[:380] for array in drawn())
    person[340:, 60:452] = 1
    classes = classes_from_person_and_hair(picture, canonical * (1, 512 / 380), person, hair)
    assert (classes[360:, 70:110] == CLOTHES).all() and (classes[345:, 400:440] == CLOTHES).all()


@pytest.mark.parametrize("name", ["front_suit_man.png", "long_hair_woman_outdoor.jpg", "dark_skin_woman_hand.jpg"])
def test_portraits_have_head_neck_and_clothes_in_order(media: Path, assets: Path, name: str):
    picture = read_picture(media / "portraits" / name)
    landmarks = detect(picture, name)
    classes = segment(picture, landmarks)
    points = (landmarks * picture.shape[1::-1]).astype(int)
    oval = points[list(FACE_OVAL)]
    x, y = oval.mean(0).astype(int)
    assert classes[y, x] == FACE_SKIN
    assert classes[points[152, 1] + 12, points[152, 0]] == BODY_SKIN
    assert set(np.unique(classes)) == {BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES}
    height = [np.flatnonzero(classes == part)[:, None].mean() for part in (HAIR, FACE_SKIN, BODY_SKIN, CLOTHES)]
    assert height[1] < height[2] < height[3]
    assert 0.1 < shows_part(classes, "head").mean() < 0.6


def test_transparent_pixels_are_background(media: Path, assets: Path):
    picture = read_picture(media / "portraits" / "front_suit_man.png")
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[400:] = 0
    classes = segment(picture, detect(picture), alpha)
    assert not classes[400:].any() and classes[:400].any()


def test_part_images_tile_the_picture():
    picture = np.random.default_rng(0).integers(1, 255, (8, 8, 3)).astype(np.uint8)
    classes = np.random.default_rng(1).integers(0, 6, (8, 8)).astype(np.uint8)
    parts = [part_image(picture, classes, part) for part in ("head", "torso", "background")]
    np.testing.assert_array_equal(sum(part.astype(int) for part in parts), picture)
