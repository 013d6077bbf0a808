import pytest
import torch
from torch.testing import assert_close

from modules.audio.amplitude import blink_units, eye_amplitude, mouth_amplitude, run_centres


def face(frames: int = 40, count: int = 68) -> torch.Tensor:
    """Open eyes 1 high, lips 0.3 apart, frames 10 to 14 with closed eyes."""
    landmarks = torch.zeros(frames, count, 3)
    upper, lower = ((37, 38, 43, 44), (51,)) if count == 68 else ((159, 386), (0,))
    landmarks[:, list(upper), 1] = 1
    landmarks[10:15, list(upper), 1] = 0.2
    landmarks[:, list(lower), 1] = 0.3
    return landmarks


@pytest.mark.parametrize("count", [68, 468])
def test_a_blink_is_one_frame_in_its_middle(count):
    assert blink_units(face(count=count)).nonzero()[:, 0].tolist() == [12]


@pytest.mark.parametrize(("count", "eyes"), [(68, 4.0), (468, 2.0)])
def test_amplitudes_are_what_was_built_in(count, eyes):
    assert_close(mouth_amplitude(face(count=count)), torch.tensor(0.3))
    assert_close(eye_amplitude(face(count=count)), torch.tensor(eyes))


def test_a_run_that_reaches_the_end_is_no_blink():
    assert run_centres(torch.tensor([1, 1, 0, 1, 0, 1, 1])).tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert run_centres(torch.zeros(5)).sum() == 0


def test_other_landmark_sets_are_refused():
    with pytest.raises(ValueError, match="70"):
        mouth_amplitude(torch.zeros(3, 70, 3))
