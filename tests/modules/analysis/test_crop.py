import numpy as np
import pytest

from modules.analysis.crop import (
    FACE_AREA,
    LARGEST_FACE_AREA,
    LARGEST_SHIFT,
    Box,
    centre_crop,
    clip_crop,
    crop_landmarks,
    crop_picture,
    photo_crop,
)


def face(x: float, y: float, width: float, height: float, shape: tuple[int, int]) -> np.ndarray:
    """Landmarks as fractions of an oval face in the middle of (x, y) pixels."""
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points = np.stack([x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=-1)
    return points / shape[::-1]


def area(landmarks: np.ndarray) -> float:
    return float(np.prod(np.ptp(landmarks, axis=-2), axis=-1))


@pytest.mark.parametrize("x, y", [(500, 600), (700, 400), (400, 900)])
def test_the_face_fills_a_fifth_of_the_square_in_the_middle(x: int, y: int):
    shape = (1500, 1200)
    landmarks = face(x, y, 240, 300, shape)
    box = photo_crop(np.zeros((*shape, 3), np.uint8), landmarks)
    inside = crop_landmarks(landmarks, shape, box)
    assert box.width == box.height
    assert area(inside) == pytest.approx(FACE_AREA, abs=0.005)
    np.testing.assert_allclose(inside.mean(0), 0.5, atol=0.005)


def test_near_the_border_the_square_stays_in_the_picture_and_the_face_near_its_middle():
    shape = (1000, 1000)
    landmarks = face(880, 300, 160, 200, shape)
    box = photo_crop(np.zeros((*shape, 3), np.uint8), landmarks)
    inside = crop_landmarks(landmarks, shape, box)
    assert box.left >= 0 and box.top >= 0 and box.right <= 1000 and box.bottom <= 1000
    assert np.abs(inside.mean(0) - 0.5).max() <= LARGEST_SHIFT + 0.01
    assert FACE_AREA <= area(inside) <= LARGEST_FACE_AREA + 0.01


def test_a_face_that_fills_the_photo_gets_a_square_beyond_it():
    shape = (400, 300)
    landmarks = face(150, 200, 280, 380, shape)
    box = photo_crop(np.zeros((*shape, 3), np.uint8), landmarks)
    assert box.left < 0 and box.right > 300
    assert area(crop_landmarks(landmarks, shape, box)) == pytest.approx(LARGEST_FACE_AREA, abs=0.01)


def test_a_clip_has_one_square_that_no_frame_leaves():
    shape = (720, 1280)
    moving = np.stack([face(600 + 90 * np.sin(t / 9), 360, 160, 200, shape) for t in range(60)])
    inside = crop_landmarks(moving, shape, clip_crop(shape, moving))
    assert inside.min() >= 0 and inside.max() <= 1
    still = clip_crop(shape, np.repeat(moving[:1], 5, axis=0))
    assert area(crop_landmarks(moving[:1], shape, still)[0]) == pytest.approx(FACE_AREA, abs=0.01)


def test_the_same_region_is_cut_whatever_the_size_of_the_photo():
    small, large = (500, 400), (1000, 800)
    a = photo_crop(np.zeros((*small, 3), np.uint8), face(200, 250, 80, 100, small))
    b = photo_crop(np.zeros((*large, 3), np.uint8), face(400, 500, 160, 200, large))
    np.testing.assert_allclose([b.left, b.top, b.right], 2 * np.array([a.left, a.top, a.right]), atol=3)


def test_outside_the_picture_lies_its_reflection():
    picture = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    crop = crop_picture(picture, Box(-4, -3, 20, 21), 24)
    np.testing.assert_array_equal(crop[3:23, 4:], picture)
    np.testing.assert_array_equal(crop[:3, 4:], picture[2::-1])
    np.testing.assert_array_equal(crop[3:23, :4], picture[:, 3::-1])


def test_a_smaller_crop_is_averaged_not_sampled():
    stripes = np.tile(np.array([0, 200], np.uint8), (64, 32))[..., None].repeat(3, axis=-1)
    assert (crop_picture(stripes, Box(0, 0, 64, 64), 16) == 100).all()


def test_a_box_outside_the_picture_is_refused():
    with pytest.raises(ValueError, match="outside"):
        crop_picture(np.zeros((10, 10, 3), np.uint8), Box(20, 20, 30, 30), 8)


def test_the_middle_of_a_wide_picture_is_not_squashed():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 30:70] = 255
    assert (centre_crop(picture, 20) == 255).all()
