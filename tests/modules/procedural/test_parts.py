import numpy as np
import pytest

from modules.procedural.parts import (
    ears,
    eyeballs,
    inner_lips,
    lid_rims,
    mouth_cavity,
    neck,
    shoulders,
    strips,
    teeth,
    tongue,
)
from modules.procedural.shell import build_shell
from modules.procedural.template import EYE_CENTRE, EYE_RADIUS


def test_a_closed_strip_joins_its_ends():
    assert len(strips(2, 5)) == 8 and len(strips(2, 5, closed=True)) == 10
    assert set(strips(2, 5, closed=True).ravel()) == set(range(10))


@pytest.mark.parametrize(
    "build",
    [
        eyeballs,
        ears,
        lambda: [neck()],
        lambda: [shoulders()],
        lambda: teeth(0.58),
        lambda: [tongue(0.58)],
        lambda: [mouth_cavity(0.58)],
    ],
)
def test_parts_are_sound_meshes(build):
    for part in build():
        assert np.isfinite(part.points).all()
        assert part.triangles.min() == 0 and part.triangles.max() == len(part.points) - 1


def test_eyeballs_are_spheres_that_face_forward():
    for part, side in zip(eyeballs(), (1, -1)):
        centre = EYE_CENTRE * [side, 1, 1]
        np.testing.assert_allclose(np.linalg.norm(part.points - centre, axis=1), EYE_RADIUS)
        a, b, c = part.points[part.triangles].transpose(1, 0, 2)
        assert (np.cross(b - a, c - a) * (a - centre)).sum(1).min() > 0


def test_left_and_right_ears_are_mirror_images():
    right, left = ears()
    np.testing.assert_allclose(right.points * [-1, 1, 1], left.points)


def test_rims_and_inner_lips_hang_on_the_skin():
    shell = build_shell()
    for part in [*lid_rims(shell), *inner_lips(shell)]:
        assert (part.triangles < 0).any() and len(part.parent) == len(part.points)
        assert -1 - part.triangles.min() < len(shell.points)


def test_teeth_hide_behind_closed_lips():
    shell = build_shell()
    front = shell.points[shell.lip_edges[0]][:, 2].max()
    assert all(part.points[:, 2].max() < front - 0.02 for part in teeth(front))
