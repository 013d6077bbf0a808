"""The sound beside the frames: as much as they take, silence where there is none."""

import numpy as np
import pytest

from inference.web.spoken_sound import SpokenSound


@pytest.mark.parametrize("rate", [16000, 44100, 11025, 22051])
def test_frames_take_their_share_to_the_sample(rate):
    sound, heard = SpokenSound(rate), np.arange(1, 4 * rate + 1, dtype=np.float32)
    for piece in np.array_split(heard, 13):
        sound.hear(piece)
    parts = [sound.of_next(count) for count in (1, 0, 4, 7, 88)]
    assert np.array_equal(np.concatenate(parts), heard) and len(parts[0]) == rate // 25
    assert not sound.of_next(25).any() and len(sound.of_next(25)) == rate


def test_what_is_forgotten_is_not_heard():
    sound = SpokenSound(16000)
    sound.hear(np.ones(1000, np.float32))
    assert sound.of_next(1).all()
    sound.forget()
    assert not sound.of_next(1).any()
    sound.hear(np.ones(640, np.float32))
    assert sound.of_next(1).all()
