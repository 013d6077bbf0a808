import numpy as np
import pytest
import soundfile

from modules.media.audio import read_mono
from modules.media.stored_sound import stored_mono
from modules.system.errors import UserError


def test_any_part_of_a_file_is_what_was_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((30_000, 2)), 22_050)
    whole = read_mono(path, 16_000)
    with stored_mono(path, 16_000) as sound:
        assert len(sound) == len(whole)
        for part in (slice(None), slice(100, 5000), slice(0, 0), slice(20_000, 10**9), slice(-7, None), slice(9, 5)):
            assert np.array_equal(sound[part], whole[part]) and sound[part].dtype == np.float32
        with pytest.raises(ValueError, match="step is 2"):
            sound[::2]


def test_what_cannot_be_read_is_refused_as_ever(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan] * 500, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    for name, words in (("nan.wav", "not numbers"), ("empty.wav", "no sound"), ("missing.wav", "missing.wav")):
        with pytest.raises(UserError, match=words), stored_mono(tmp_path / name, 16_000):
            pass
