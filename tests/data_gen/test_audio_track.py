import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen import audio_track as sound
from data_gen.audio_track import AudioTrack, FeatureSources, speech_features
from modules.media.audio import Sound
from modules.media.rates import FRAME_SAMPLES
from modules.system.errors import UserError
from tests.videos import tone, write_video

FRAMES = 50


def video(path, track: Sound | None):
    return write_video(path, np.zeros((FRAMES, 32, 32, 3), np.uint8), track)


def steps(rate: int) -> Sound:
    """200 Hz; louder by a tenth of the range every half second."""
    time = np.arange(2 * rate) / rate
    return Sound.from_samples((0.1 + 0.1 * (time // 0.5)) * np.sin(2 * np.pi * 200 * time), rate)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_piece_is_what_is_heard_with_its_frames(tmp_path, rate):
    track = AudioTrack(video(tmp_path / "a.mp4", steps(rate)))
    for start, level in ((13, 0.2), (14, 0.2), (39, 0.4)):  # second and last half second; pieces overlap
        wave = track.piece(start, 9)
        assert wave.shape == (9 * FRAME_SAMPLES,) and wave.dtype == np.float32
        assert np.abs(wave).max() == pytest.approx(level, rel=0.15)


def test_a_change_is_heard_on_time(tmp_path):
    wave = AudioTrack(video(tmp_path / "a.mp4", steps(44_100))).piece(0, FRAMES)
    loud = np.flatnonzero(np.abs(wave) > 0.115)[0] / 16_000
    assert loud == pytest.approx(0.5, abs=0.01)


def test_behind_the_end_of_the_sound_is_silence(tmp_path):
    track = AudioTrack(video(tmp_path / "a.mp4", tone(1.0)))
    wave = track.piece(0, FRAMES + 20)
    assert wave.shape == ((FRAMES + 20) * FRAME_SAMPLES,) and np.abs(wave[:FRAME_SAMPLES]).max() > 0.4
    assert not wave[-20 * FRAME_SAMPLES :].any() and track.piece(FRAMES, 20) is None
    with pytest.raises(ValueError, match="after sample"):
        track.piece(0, 5)


def test_no_track_and_a_silent_one_are_no_sound(tmp_path):
    assert AudioTrack(video(tmp_path / "a.mp4", None)).piece(0, 10) is None
    silent = Sound.from_samples(np.zeros(32_000), 16_000)
    assert AudioTrack(video(tmp_path / "b.mp4", silent)).piece(0, 10) is None


def test_features_of_all_kinds_are_made(monkeypatch):
    networks = {
        "hubert": lambda wave: torch.ones((len(wave) - 80) // 320, 4),
        "whisper": lambda wave: torch.ones(len(wave) // 320, 5),
    }
    monkeypatch.setattr(FeatureSources, "network", lambda self, kind: networks.get(kind))
    features = speech_features(tone(1.0).samples()[:, 0], ("mel", "hubert", "whisper"))
    assert {kind: f.features.shape for kind, f in features.items()} == {
        "mel": (56, 80),
        "hubert": (56, 4),
        "whisper": (56, 5),
    }
    assert speech_features(None, ("mel",)) == {}


def test_the_pitch_is_that_of_the_tracker():
    pytest.importorskip("pyworld")
    features = speech_features(tone(1.0).samples()[:, 0], ("mel",), FeatureSources(pitch="world"))
    assert features["mel"].pitch == "world"


def test_a_missing_package_of_the_pitch_stops_before_anything_is_made(monkeypatch):
    FeatureSources().check(("mel",))
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(UserError, match="needs the package pyworld"):
        FeatureSources(pitch="world").check(("mel",))


def test_each_network_is_loaded_once_from_its_own_source(monkeypatch):
    loaded = []

    def load(source):
        loaded.append(source)
        return torch.nn.Identity()

    monkeypatch.setattr(sound, "load_hubert", load)
    monkeypatch.setattr(sound, "load_whisper", load)
    sources = FeatureSources(hubert="a network", whisper="a folder")
    assert sources.network("mel") is None
    assert sources.network("hubert") is sources.network("hubert") is not sources.network("whisper")
    assert loaded == ["a network", Path("a folder")]
    sound._network.cache_clear()


def test_samples_before_the_beginning_are_silent_and_pieces_may_overlap(tmp_path):
    track = AudioTrack(video(tmp_path / "a.mp4", tone(2.0)))
    whole = AudioTrack(video(tmp_path / "b.mp4", tone(2.0))).samples(0, 32_000)
    first = track.samples(-500, 2000)
    assert not first[:500].any()
    np.testing.assert_array_equal(first[500:], whole[:1500])
    np.testing.assert_array_equal(track.samples(1000, 4000), whole[1000:5000])
    assert not AudioTrack(tmp_path / "a.mp4").samples(-900, 800).any()
