import pytest
import torch
from torch.testing import assert_close

from modules.audio.keypoints import Keypoints
from modules.audio.syncnet import KEYPOINT_SIZES


class Face:
    """A face model of 478 random landmarks."""

    def landmark_basis(self, count: int) -> tuple[torch.Tensor, ...]:
        random = torch.Generator().manual_seed(count)
        return tuple(
            torch.randn(count, 3, *extra, generator=random, dtype=torch.float64) for extra in ((), (80,), (64,))
        )


@pytest.mark.parametrize("keypoints", KEYPOINT_SIZES)
def test_displacements_are_ten_times_those_of_the_landmarks(keypoints):
    random = torch.Generator().manual_seed(0)
    face, identity, expression = (
        Face(),
        *(torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((2, 80), (2, 7, 64))),
    )
    displacements = Keypoints(face, keypoints)(identity, expression)
    assert displacements.shape == (2, 7, KEYPOINT_SIZES[keypoints])
    _, of_identity, of_expression = face.landmark_basis(468 if keypoints == "lm468" else 68)
    point = 48 if keypoints == "lip" else 0
    expected = 10 * (of_identity[point] @ identity[1] + of_expression[point] @ expression[1, 3])
    assert_close(displacements[1, 3, :3], expected)
