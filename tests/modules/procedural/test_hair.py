import numpy as np
import pytest

from modules.procedural.hair import STYLES, hair_grid, hair_points
from modules.procedural.template import ARC_LENGTH, Surface, loft

BY_NAME = {style.name: style for style in STYLES}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_every_style_uses_the_same_grid(style):
    angle, share, triangles = hair_grid()
    points = hair_points(style)
    assert points.shape == (len(angle), 3) and np.isfinite(points).all()
    assert triangles.max() == len(angle) - 1 and share.min() == 0 and share.max() == 1


def test_hair_stands_off_the_skull_and_a_bald_head_hides_it():
    angle, share, _ = hair_grid()
    crown = share < 0.3
    skull = np.linalg.norm(loft(Surface(angle[crown], np.full(crown.sum(), ARC_LENGTH - 0.5))), axis=1).max()
    quiff, bald = (np.linalg.norm(hair_points(BY_NAME[name])[crown], axis=1).max() for name in ("quiff", "bald"))
    assert quiff > bald and BY_NAME["bald"].hairless and bald < skull + 0.5


def test_length_moves_the_ends_of_long_hair_only():
    long, short = BY_NAME["long"], BY_NAME["short"]
    assert hair_points(long, 1.2)[:, 1].min() < hair_points(long, 0.8)[:, 1].min() - 0.2
    np.testing.assert_allclose(hair_points(short, 1.2), hair_points(short, 0.8))
