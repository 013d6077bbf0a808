from modules.classes import BACKGROUND, CLASSES, HEAD_CLASSES, TORSO_CLASSES


def test_head_torso_and_background_share_out_all_classes():
    assert sorted([*HEAD_CLASSES, *TORSO_CLASSES, BACKGROUND]) == list(range(CLASSES))
