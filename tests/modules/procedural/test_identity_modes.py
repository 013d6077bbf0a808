import numpy as np
import pytest

from modules.procedural.identity_modes import identity_modes
from modules.procedural.parts import eyeballs
from modules.procedural.shell import build_shell
from modules.procedural.template import EYE_CENTRE, EYE_RADIUS


@pytest.fixture(scope="module")
def head():
    shell = build_shell()
    parts = [shell.points, *(part.points for part in eyeballs())]
    points = np.concatenate(parts)
    groups = np.repeat(["skin", "eyeballs", "eyeballs"], [len(part) for part in parts])
    return shell, points, groups, identity_modes(points, groups)


def test_there_are_80_modes_of_a_few_millimetres(head):
    _, _, _, modes = head
    assert len(modes) == 80
    largest = {name: np.linalg.norm(field, axis=1).max() for name, field in modes.items()}
    on_skin = {name: size for name, size in largest.items() if size > 0}
    assert len(on_skin) >= 74 and max(on_skin.values()) < 0.2


def test_the_lips_stay_together_and_the_eyeballs_stay_round(head):
    shell, points, groups, modes = head
    identity = np.random.default_rng(0).normal(size=80).clip(-2.2, 2.2)
    moved = points + sum(weight * field for weight, field in zip(identity, modes.values()))
    np.testing.assert_allclose(moved[shell.lip_edges[0]], moved[shell.lip_edges[1]], atol=1e-5)
    ball = moved[groups == "eyeballs"][: len(eyeballs()[0].points)]
    centre = EYE_CENTRE + (ball - eyeballs()[0].points).mean(axis=0)
    radius = np.linalg.norm(ball - centre, axis=1)
    assert radius.std() < 0.15 * EYE_RADIUS and 0.6 < radius.mean() / EYE_RADIUS < 1.5
