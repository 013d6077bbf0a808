import sys

import numpy as np
import pytest
import soundfile
import torch

from data_gen import audio_track, speech
from modules.audio.features import AudioFeatures
from modules.clips.format import Clip, write_speech
from modules.face3d.coefficients import FaceCoefficients


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A clip with sound, one without, and one that has HuBERT features; a HuBERT of four numbers."""
    for name, loud in (("loud", True), ("silent", False), ("done", True)):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "clip.npz", face_model="procedural", **vars(FaceCoefficients.neutral(10)))
        if loud:
            soundfile.write(folder / "audio.wav", 0.1 * np.random.default_rng(0).standard_normal(6400), 16000)
    write_speech(tmp_path / "done", "hubert", AudioFeatures(torch.ones(24, 4), torch.ones(24)))
    networks = {"hubert": lambda wave: torch.zeros((len(wave) - 80) // 320, 4)}
    monkeypatch.setattr(audio_track.FeatureSources, "network", lambda self, kind: networks.get(kind))
    return tmp_path


def test_only_what_is_missing_is_computed(clips, capsys):
    assert speech.main([str(clips)]) == 0
    assert capsys.readouterr().out == f"{clips}: 2 of 3 clips have hubert features, the others no sound\n"
    assert Clip(clips / "loud").speech("hubert").features.shape == (24, 4)
    assert Clip(clips / "done").speech("hubert").features.min() == 1
    assert speech.main([str(clips), "--features", "mel"]) == 0
    assert Clip(clips / "done").speech("mel").features.shape == (24, 80)


def test_pitch_of_another_tracker_is_made_anew_and_features_are_kept(clips):
    pytest.importorskip("pyworld")
    assert speech.main([str(clips), "--pitch", "world"]) == 0
    done, before = Clip(clips / "done").speech("hubert"), (clips / "done" / "speech_hubert.npz").stat().st_mtime_ns
    assert done.pitch == "world" and done.features.min() == 1 and done.f0.max() == 0  # noise; 1 Hz before
    assert Clip(clips / "loud").stored_speech("hubert") == (24, "world")
    assert speech.main([str(clips), "--pitch", "world"]) == 0
    assert (clips / "done" / "speech_hubert.npz").stat().st_mtime_ns == before
    assert speech.main([str(clips)]) == 0
    assert Clip(clips / "done").stored_speech("hubert") == (24, "praat")


def test_without_the_package_of_the_pitch_nothing_is_touched(clips, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    assert speech.main([str(clips), "--pitch", "world"]) == 2
    assert "pitch: world needs the package pyworld" in capsys.readouterr().err
    assert Clip(clips / "done").stored_speech("hubert") == (24, "praat")


def test_what_cannot_be_done_is_one_line(clips, tmp_path_factory, monkeypatch, capsys):
    assert speech.main([str(tmp_path_factory.mktemp("empty"))]) == 2
    assert "no prepared clips in" in capsys.readouterr().err

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(speech, "write_speech", full)
    assert speech.main([str(clips)]) == 2
    assert "loud cannot be written (No space left on device); free some space" in capsys.readouterr().err
