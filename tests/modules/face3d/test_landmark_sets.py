import torch

from modules.face3d import landmark_sets as sets
from modules.procedural.head import procedural_model


def test_sets_hold_each_point_once_and_none_beyond_the_face():
    for name in ("FACE_OVAL", "EYES", "UPPER_LIDS", "LIPS", "MOUTH"):
        points = getattr(sets, name)
        assert len(set(points)) == len(points) and 0 <= min(points) <= max(points) < 468, name
    assert set(sets.UPPER_LIDS) < set(sets.EYES) and set(sets.LIPS) < set(sets.MOUTH)
    assert len(sets.LANDMARKS_68) == 68 == sets.MOUTH_68.stop


def test_the_68_points_lie_where_their_sets_say():
    outer = sets.LANDMARKS_68[sets.OUTER_LIPS_68]
    assert set(outer) <= set(sets.LIPS[20:]) and set(sets.LANDMARKS_68[60:]) <= set(sets.LIPS[:20])
    assert tuple(sets.LANDMARKS_68[i] for i in sets.EYE_CORNERS_68) == sets.EYE_CORNERS
    assert tuple(sets.LANDMARKS_68[i] for i in sets.OUTER_LIP_MIDDLES_68) == sets.OUTER_LIP_MIDDLES


def test_pairs_stand_one_above_the_other_on_a_face():
    points = procedural_model().landmarks(torch.zeros(1, 80), torch.zeros(1, 64), 478)[0]
    upper_lower = [sets.INNER_LIP_MIDDLES, sets.OUTER_LIP_MIDDLES, *sets.LID_MIDDLES, (sets.FOREHEAD, sets.CHIN)]
    assert all(points[upper, 1] > points[lower, 1] - 1e-3 for upper, lower in upper_lower)
    assert points[sets.LEFT_SIDE, 0] < points[sets.EYE_CORNERS[0], 0] < 0 < points[sets.RIGHT_SIDE, 0]


def test_of_two_sets_the_later_weight_counts():
    assert sets.landmark_weights(4, (((0, 1), 3.0), ((1,), 5.0))).tolist() == [3, 5, 1, 1]
