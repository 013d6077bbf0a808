import torch

from modules.analysis.segmentation_classes import BACKGROUND, CLASSES, HEAD_CLASSES, TORSO_CLASSES, one_hot, part_mask


def test_head_torso_and_background_share_out_all_classes():
    assert sorted([*HEAD_CLASSES, *TORSO_CLASSES, BACKGROUND]) == list(range(CLASSES))


def test_every_pixel_has_a_one_in_the_channel_of_its_class():
    classes = torch.tensor([[[0, 5, 2], [3, 3, 1]], [[4, 0, 0], [1, 2, 5]]], dtype=torch.uint8)
    channels = one_hot(classes)
    assert channels.shape == (2, CLASSES, 2, 3) and channels.dtype == torch.float32
    assert torch.equal(channels.argmax(dim=1), classes.long())
    assert torch.equal(channels.sum(dim=1), torch.ones(2, 2, 3)) and set(channels.unique().tolist()) == {0.0, 1.0}


def test_a_mask_is_true_on_its_classes_alone():
    classes = torch.arange(CLASSES, dtype=torch.uint8).view(1, 2, 3)
    mask = part_mask(classes, HEAD_CLASSES)
    assert mask.shape == (1, 1, 2, 3) and mask.flatten().nonzero().flatten().tolist() == sorted(HEAD_CLASSES)
