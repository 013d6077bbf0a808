import numpy as np
import pytest

from modules.rig.teeth import ABOVE, HALF_WIDTH, PICTURE_ROWS, PIXELS, TEXEL, lower_teeth, picture_of, upper_teeth

TEETH, GUMS, TONGUE = (np.array(colour) for colour in ((0.8, 0.8, 0.7), (0.6, 0.3, 0.3), (0.7, 0.4, 0.4)))


def at(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """Colours times cover, and cover, of a row of teeth at a place in dm from the middle of its edge."""
    return picture[int((ABOVE - y) / TEXEL), int((x + HALF_WIDTH) / TEXEL)]


def dark_lines(picture: np.ndarray, y: float) -> np.ndarray:
    """Where light is least between brighter places on the right half of a row, dm from the middle."""
    light = picture[int((ABOVE - y) / TEXEL), picture.shape[1] // 2 :, :3].mean(1)
    inner = light[1:-1]
    return (np.flatnonzero((inner < light[:-2]) & (inner <= light[2:])) + 1.5) * TEXEL


def test_the_upper_row_is_of_incisors_canines_and_premolars_that_get_narrower_in_view():
    row = upper_teeth(TEETH, GUMS)
    lines = dark_lines(row, 0.05)[:3]
    assert lines == pytest.approx([0.083, 0.142, 0.198], abs=0.006)  # 0.26 sin(s / 0.26) of 8.5, 15 and 22.5 mm
    widths = np.diff([0, *lines])
    assert (np.diff(widths) < 0).all()
    assert at(row, 0.04, 0.05)[:3].mean() > 1.2 * at(row, 0.22, 0.05)[:3].mean()  # light falls towards the corners


def test_gums_lie_above_the_upper_teeth_and_nothing_below():
    row = upper_teeth(TEETH, GUMS)
    red = [at(row, 0.04, y)[0] / at(row, 0.04, y)[1] for y in (0.05, 0.15)]
    assert red[0] < 1.1 and red[1] > 1.8
    assert at(row, 0.04, -0.02)[3] == 0 and at(row, 0.3, 0.05)[3] == 0


def test_the_tongue_rises_behind_the_lower_teeth():
    row = lower_teeth(TEETH, GUMS, TONGUE)
    tooth, tongue, above, beside = (at(row, x, y) for x, y in ((0.025, -0.04), (0.0, 0.05), (0.0, 0.15), (0.2, 0.06)))
    assert tooth[0] / tooth[1] < 1.1 < 1.5 < tongue[0] / tongue[1]
    assert tongue[3] > 0.6 and above[3] == 0 and beside[3] == 0


def test_pictures_are_both_rows_blurred_by_the_size_of_a_pixel():
    pictures = picture_of(TEETH, GUMS, TONGUE)
    assert pictures.shape == (len(PIXELS), 2 * PICTURE_ROWS, round(2 * HALF_WIDTH / TEXEL), 4)
    assert pictures.dtype == np.float32 and pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures[..., :3].max(-1) <= pictures[..., 3] + 1e-4).all()
    detail = [np.abs(np.diff(picture, axis=1)).mean() for picture in pictures]
    assert (np.diff(detail) < 0).all()
    assert at(pictures[0], 0.04, 0.05) == pytest.approx(at(upper_teeth(TEETH, GUMS), 0.04, 0.05), abs=0.02)
    assert at(pictures[0][PICTURE_ROWS:], 0.025, -0.04) == pytest.approx(
        at(lower_teeth(TEETH, GUMS, TONGUE), 0.025, -0.04), abs=0.03
    )
