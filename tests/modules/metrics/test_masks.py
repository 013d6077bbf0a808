import math

import pytest
import torch

from modules.analysis.segmentation_classes import BACKGROUND, BODY_SKIN, CLOTHES, FACE_SKIN, HAIR
from modules.metrics.masks import lost_person, neck_seam, neck_seam_error, one_face


@pytest.fixture
def classes() -> torch.Tensor:
    """A person of stripes, [1, 64, 64]: background, hair, face, neck, clothes from top to bottom."""
    rows = torch.full((64,), BACKGROUND)
    rows[8:16], rows[16:36], rows[36:44], rows[44:] = HAIR, FACE_SKIN, BODY_SKIN, CLOTHES
    return rows[None, :, None].expand(1, 64, 64).contiguous()


def test_the_seam_is_a_band_around_the_border_of_head_and_torso(classes):
    seam = neck_seam(classes)
    assert seam.shape == (1, 1, 64, 64)
    assert seam[0, 0].any(dim=1).nonzero().flatten().tolist() == [35, 36]  # 8 pixels of 512 are 1 of 64
    large = classes.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert neck_seam(large)[0, 0].any(dim=1).nonzero().flatten().tolist() == list(range(280, 296))


def test_a_seam_that_is_as_bad_as_the_rest_has_1_and_a_bad_one_more(classes):
    truth = torch.full((1, 3, 64, 64), 0.5)
    assert float(neck_seam_error(truth + 0.1, truth, classes)) == pytest.approx(1, abs=1e-4)
    cut = truth + 0.1
    cut[:, :, 35:37] += 0.2
    assert float(neck_seam_error(cut, truth, classes)) == pytest.approx(3, abs=1e-3)
    background = truth + 0.1
    background[:, :, :8] = 1
    assert float(neck_seam_error(background, truth, classes)) == pytest.approx(1, abs=1e-4)
    assert neck_seam_error(cut, truth, torch.full_like(classes, FACE_SKIN)).isnan().all()


def test_the_lost_share_is_of_the_photos_person(classes):
    made = classes.repeat(2, 1, 1)
    made[1, 50:] = BACKGROUND  # 14 of 56 rows
    made[1, :8] = HAIR  # gained, not lost
    assert lost_person(made, classes[0]).tolist() == pytest.approx([0, 0.25])


def test_no_face_and_two_faces_are_not_one():
    assert one_face(torch.tensor([1, 1, 0, 2])) == 0.5
    assert math.isnan(one_face(torch.zeros(0)))
