import numpy as np
import pytest

from modules.procedural.expression_modes import Rig, expression_modes, jaw_weight
from modules.procedural.shell import build_shell
from modules.procedural.template import EYE_CENTRE, EYE_RADIUS


@pytest.fixture(scope="module")
def face():
    shell = build_shell()
    count = len(shell.points)
    return shell, Rig(shell.points, np.full(count, "skin"), shell.lip, np.zeros(count))


def test_the_jaw_carries_the_lower_lip_and_leaves_the_upper(face):
    shell, rig = face
    weight = jaw_weight(rig)
    upper, lower = weight[shell.lip_edges]
    middle = len(upper) // 2
    assert upper[middle] < 0.02 and lower[middle] > 0.98 and upper[0] == lower[0]
    assert weight[shell.points[:, 1] > 0.2].max() < 0.03
    assert (np.diff(lower[middle:]) <= 1e-6).all()


def test_there_are_64_actions_and_the_skin_stays_whole(face):
    shell, rig = face
    modes = expression_modes(rig)
    assert len(modes) == 64
    for name, field in modes.items():
        assert np.isfinite(field).all(), name
        corners = field[shell.lip_edges[:, [0, -1]]]
        np.testing.assert_allclose(corners[0], corners[1], err_msg=name)


def test_closing_lids_stay_in_front_of_the_eyeball(face):
    shell, rig = face
    blink = expression_modes(rig)["blink_left"]
    edge = shell.eye_edges[0]
    for share in (0.0, 0.5, 1.0):
        offset = shell.points[edge] + share * blink[edge] - EYE_CENTRE
        assert np.linalg.norm(offset, axis=1).min() > EYE_RADIUS
