from collections import Counter

import numpy as np
import pytest

from modules.procedural.shell import Shell, build_shell


@pytest.fixture(scope="module")
def shell() -> Shell:
    return build_shell()


def border_edges(triangles: np.ndarray) -> set[tuple[int, int]]:
    edges = {(int(a), int(b)) for k in range(3) for a, b in triangles[:, [k, (k + 1) % 3]]}
    return {(a, b) for a, b in edges if (b, a) not in edges}


def test_every_edge_belongs_to_at_most_two_triangles_of_the_same_orientation(shell):
    counts = Counter(tuple(edge) for k in range(3) for edge in shell.triangles[:, [k, (k + 1) % 3]].tolist())
    assert max(counts.values()) == 1


def test_holes_are_the_eyes_the_mouth_and_the_two_ends(shell):
    border = border_edges(shell.triangles)
    height = shell.points[:, 1]
    ends = {edge for edge in border if max(height[list(edge)]) < -0.97 or min(height[list(edge)]) > 1.33}
    eyes = {vertex for edge in shell.eye_edges for vertex in edge.tolist()}
    mouth = set(shell.lip_edges.ravel().tolist())
    for edge in border - ends:
        assert set(edge) <= eyes or set(edge) <= mouth
    assert len(border - ends) == len(eyes) + len(mouth)


def test_lips_touch_and_are_separate_but_for_the_corners(shell):
    upper, lower = shell.lip_edges
    np.testing.assert_allclose(shell.points[upper], shell.points[lower], atol=1e-6)
    assert (upper == lower).sum() == 2 and upper[0] == lower[0] and upper[-1] == lower[-1]


def test_the_mesh_is_its_own_mirror_image(shell):
    mirrored = shell.points * [-1, 1, 1]
    order, other = (np.lexsort(np.round(points, 6).T) for points in (shell.points, mirrored))
    np.testing.assert_allclose(shell.points[order], mirrored[other], atol=1e-5)


def test_triangles_of_the_front_face_forward(shell):
    a, b, c = shell.points[shell.triangles].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    forehead = (np.abs(a[:, 0]) < 0.3) & (a[:, 1] > 0.5) & (a[:, 1] < 0.8) & (a[:, 2] > 0)
    assert forehead.sum() > 20 and (normal[forehead, 2] > 0).all()
