import pytest
import torch

from modules.procedural.clips import named_expression
from modules.procedural.head import EXPRESSIONS, GROUPS, build_model, expression_index, procedural_model

NEUTRAL = torch.zeros(1, 80)


@pytest.fixture(scope="module")
def model():
    return procedural_model()


def landmarks(model, **actions):
    return model.landmarks(NEUTRAL, named_expression(1, **actions))[0]


def test_building_twice_gives_the_same_model(model):
    again = build_model({})
    for name in ("mean", "identity_basis", "expression_basis", "triangles", "paint"):
        assert torch.equal(getattr(again, name), getattr(model, name)), name


def test_size_and_groups_are_as_promised(model):
    assert 10_000 <= len(model.triangles) <= 20_000
    for name in GROUPS:
        assert model.vertex_group(name).any() and model.triangle_group(name).any(), name
    face = model.mean[model.pncc_triangles.unique()]
    width, height, _ = (face.amax(0) - face.amin(0)).tolist()
    assert 1.4 < width < 1.7 and 1.7 < height < 2.0


def test_every_mode_moves_something_and_stays_finite(model):
    assert model.identity_basis.abs().amax(dim=(0, 1)).min() > 2e-3
    assert model.expression_basis.abs().amax(dim=(0, 1)).min() > 2e-3
    assert model.identity_basis.isfinite().all() and model.expression_basis.isfinite().all()


def test_the_pncc_leaves_out_eyes_teeth_and_hair(model):
    used = model.groups[model.pncc_triangles.unique()]
    assert (used == GROUPS.index("skin")).all()
    assert model.ncc.min() >= 0 and model.ncc.max() <= 1


def test_68_landmarks_lie_in_their_places(model):
    points = landmarks(model)
    assert points[8, 1] < points[57, 1] < points[51, 1] < points[33, 1] < points[39, 1] < points[21, 1]
    assert points[36, 0] < points[39, 0] < 0 < points[42, 0] < points[45, 0]
    mirrored = points[[45, 42, 33, 54, 8]] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored, points[[36, 39, 33, 48, 8]], atol=0.02, rtol=0)


def test_opening_the_jaw_parts_the_lips_and_lowers_the_chin(model):
    closed, opened = landmarks(model), landmarks(model, jaw_open=1.0)
    gap = (opened[62] - opened[66])[1] - (closed[62] - closed[66])[1]
    assert gap > 0.15 and opened[8, 1] < closed[8, 1] - 0.15
    torch.testing.assert_close(opened[27:31], closed[27:31], atol=5e-3, rtol=0)


@pytest.mark.parametrize(("action", "moved", "still"), [("blink_left", 43, 38), ("blink_right", 38, 43)])
def test_a_blink_closes_one_eye(model, action, moved, still):
    change = landmarks(model, **{action: 1.0}) - landmarks(model)
    assert change[moved, 1] < -0.04 and change[still].abs().max() < 1e-3


def test_smiling_widens_and_lifts_the_mouth_and_puckering_narrows_it(model):
    rest, smile, pucker = landmarks(model), landmarks(model, smile=1.0), landmarks(model, pucker=1.0)
    width = [float(points[54, 0] - points[48, 0]) for points in (pucker, rest, smile)]
    assert width[0] < 0.85 * width[1] < width[1] < width[2]
    assert smile[48, 1] > rest[48, 1] + 0.03 and pucker[62, 2] > rest[62, 2] + 0.03


def test_gaze_turns_the_eyeballs_alone_in_their_sockets(model):
    basis = model.expression_basis[..., expression_index("gaze_x")].norm(dim=1)
    assert basis[model.vertex_group("eyeballs")].max() > 0.03
    assert basis[~model.vertex_group("eyeballs")].max() == 0


def test_names_of_expressions_are_unique_and_fit():
    assert len(set(EXPRESSIONS)) == len(EXPRESSIONS) <= 64
    with pytest.raises(ValueError, match="no_such_action"):
        named_expression(1, no_such_action=1.0)
