from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from modules.analysis.inpainting import _distance_to, fill_torso, inpaint_background, inpaint_torso, smooth_fill


@pytest.fixture
def opencv_threads() -> Iterator[None]:
    """The number of OpenCV's threads comes back after the test."""
    former = cv2.getNumThreads()
    yield
    cv2.setNumThreads(former)


@pytest.fixture
def classes() -> np.ndarray:
    """Head over neck over clothes in a picture of 64 x 64."""
    classes = np.zeros((64, 64), np.uint8)
    classes[8:36, 20:44] = 3
    classes[8:16, 20:44] = 1
    classes[36:44, 26:38] = 2
    classes[44:, 10:54] = 4
    return classes


def test_the_neck_continues_behind_the_head_and_fades(classes: np.ndarray):
    picture = np.full((64, 64, 3), 200, np.uint8)
    torso, mask = inpaint_torso(picture, classes, scale=1.0)
    column = torso[:40, 32, 0]
    assert mask[:40, 32].all()
    assert (np.diff(column[:36].astype(int)) >= 0).all() and column[0] < 120 < column[35]
    assert not mask[:30, 22].any() and not torso[~mask].any()


def test_the_torso_itself_is_unchanged_and_the_head_is_gone(classes: np.ndarray):
    picture = np.random.default_rng(0).integers(1, 255, (64, 64, 3)).astype(np.uint8)
    torso, mask = inpaint_torso(picture, classes, scale=1.0)
    np.testing.assert_array_equal(torso[classes == 4], picture[classes == 4])
    filled, _ = fill_torso(picture, classes, scale=1.0)
    assert not filled[(classes == 1) & ~mask].any()
    scene = (classes == 0) & ~mask
    np.testing.assert_array_equal(filled[scene], picture[scene])


def test_twice_the_size_gives_the_same_torso(classes: np.ndarray):
    rows, columns = np.mgrid[:256, :256]
    picture = np.stack([rows // 2 + 60, columns // 2 + 60, 0 * rows + 90], axis=-1).astype(np.uint8)
    large_classes = np.kron(classes, np.ones((4, 4), np.uint8))
    large, large_mask = inpaint_torso(picture, large_classes)
    small, small_mask = inpaint_torso(picture[::2, ::2], large_classes[::2, ::2])
    both = large_mask[::2, ::2] & small_mask
    assert (large_mask[::2, ::2] != small_mask).mean() < 0.03
    assert np.abs(large[::2, ::2].astype(int) - small)[both].mean() < 3


def test_without_a_head_nothing_is_filled():
    picture = np.full((32, 32, 3), 80, np.uint8)
    classes = np.zeros((32, 32), np.uint8)
    classes[20:] = 4
    torso, mask = inpaint_torso(picture, classes, scale=1.0)
    np.testing.assert_array_equal(mask, classes == 4)
    assert (torso[mask] == 80).all()


def test_a_moving_person_uncovers_the_background():
    scene = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    frames, classes = np.repeat(scene[None], 12, axis=0), np.zeros((12, 60, 80), np.uint8)
    for t in range(12):
        classes[t, 20:, 5 + 4 * t : 15 + 4 * t] = 4
        frames[t][classes[t] > 0] = 0
    for method in ("smooth", "nearest"):
        np.testing.assert_array_equal(inpaint_background(frames, classes, method, scale=0.2), scene)


def test_a_plain_background_is_continued_exactly():
    classes = np.zeros((64, 64), np.uint8)
    classes[20:, 16:48] = 4
    picture = np.where((classes > 0)[..., None], 0, np.array([30, 90, 200])).astype(np.uint8)
    for method in ("smooth", "nearest"):
        background = inpaint_background(picture[None], classes[None], method)
        assert (background == [30, 90, 200]).all()


def test_the_smooth_fill_has_no_edges_where_the_nearest_has():
    rows, columns = np.mgrid[:96, :96]
    picture = np.stack([columns * 2, rows * 2, 255 - columns * 2], axis=-1).astype(np.uint8)
    classes = np.zeros((96, 96), np.uint8)
    classes[24:, 24:72] = 4
    steps = {
        method: np.abs(np.diff(inpaint_background(picture[None], classes[None], method).astype(int), axis=1)).max()
        for method in ("smooth", "nearest")
    }
    assert steps["smooth"] < 12 < steps["nearest"]


def test_a_linear_ramp_is_restored_by_the_smooth_fill():
    columns = np.tile(np.arange(64) * 4, (64, 1)).astype(np.uint8)
    ramp = np.repeat(columns[..., None], 3, axis=-1)
    known = np.ones((64, 64), bool)
    known[20:44, 20:44] = False
    filled = smooth_fill(np.where(known[..., None], ramp, 0).astype(np.uint8), known)
    assert np.abs(filled.astype(int) - ramp).max() <= 3


def test_a_person_who_hides_everything_leaves_a_plain_background():
    picture = np.full((32, 32, 3), 70, np.uint8)
    assert (inpaint_background(picture[None], np.full((1, 32, 32), 3, np.uint8)) == 70).all()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="smooth or nearest"):
        inpaint_background(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.uint8), "magic")


def people(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of noise, and a person who jumps to and fro, so that many pixels are as far from him in two frames."""
    random = np.random.default_rng(0)
    frames, classes = random.integers(0, 255, (30, size, size, 3), np.uint8), np.zeros((30, size, size), np.uint8)
    for frame in classes:
        y, x = random.integers(size // 4, size // 2, 2)
        frame[y : y + size // 6, x : x + size // 6] = 4
    return frames, classes


@pytest.mark.parametrize("size", [96, 200])
def test_a_background_is_the_same_whatever_the_threads(size: int, opencv_threads: None):
    """OpenCV takes other code with one thread, and its distances differ then by the last bit."""
    frames, classes = people(size)
    backgrounds = []
    for threads in (1, 2, 1, 4):
        cv2.setNumThreads(threads)
        exact = distance_transform_edt(classes[0] == 0).astype(np.float32)
        np.testing.assert_array_equal(_distance_to(classes[0] != 0), exact)
        backgrounds.append([inpaint_background(frames, classes, method) for method in ("smooth", "nearest")])
    for others in backgrounds[1:]:
        np.testing.assert_array_equal(others, backgrounds[0])
