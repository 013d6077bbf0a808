import sys

import numpy as np
import pytest

from modules.audio import world
from modules.audio.pitch import pitch_at_hop
from modules.audio.world import world_pitch_at_hop
from modules.system.errors import UserError
from tests.modules.audio.test_pitch import voice


@pytest.fixture
def glide() -> tuple[np.ndarray, np.ndarray]:
    """Pitch of every sample, and the voice that has it, with pauses."""
    hertz = np.linspace(100, 300, 48000)
    return hertz, voice(hertz) * (np.sin(np.arange(48000) / 3000) > -0.5)


def test_the_pitch_of_a_frame_is_that_of_its_centre(glide):
    pytest.importorskip("pyworld")
    hertz, wave = glide
    f0 = world_pitch_at_hop(wave, 149)
    centres = 320 * (np.arange(149) + 1)
    voiced = f0 > 0
    assert 0.5 < voiced.mean() < 0.9
    assert np.abs(f0 / hertz[centres] - 1)[voiced].max() < 0.02


def test_it_agrees_with_praat_where_both_hear_a_voice(glide):
    pytest.importorskip("pyworld")
    wave = glide[1]
    ours, theirs = pitch_at_hop(wave, 149), world_pitch_at_hop(wave, 149)
    both = (ours > 0) & (theirs > 0)
    assert both.sum() > 70 and np.abs(ours[both] / theirs[both] - 1).max() < 0.02
    assert ((ours > 0) == (theirs > 0)).mean() > 0.7  # 74 to 90 % of speech


def test_blocks_give_the_pitch_of_the_whole(glide, monkeypatch):
    pytest.importorskip("pyworld")
    wave = glide[1]
    whole = world_pitch_at_hop(wave, 149)
    for block in (40, 70):
        monkeypatch.setattr(world, "AT_ONCE", block)
        f0 = world_pitch_at_hop(wave, 149)
        both = (f0 > 0) & (whole > 0)
        assert np.allclose(f0[both], whole[both], rtol=1e-6, atol=0)
        assert ((f0 > 0) != (whole > 0)).sum() <= 1  # at an onset, by where the block begins


def test_silence_and_the_shortest_sound_have_no_pitch():
    pytest.importorskip("pyworld")
    assert world_pitch_at_hop(np.zeros(512, np.float32), 1).tolist() == [0]
    assert not world_pitch_at_hop(np.zeros(16000, np.float32), 49).any()
    assert world_pitch_at_hop(voice(np.full(3200, 150.0)), 20).shape == (20,)  # more than the sound has: 0


def test_without_the_package_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(UserError, match="pitch: world needs the package pyworld; pip install .*, or set pitch=praat"):
        world_pitch_at_hop(np.zeros(16000), 49)
