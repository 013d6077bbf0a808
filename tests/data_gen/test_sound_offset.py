import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen import sound_offset
from data_gen.audio_track import AudioTrack
from data_gen.sound_offset import OffsetConfig, lip_sync, measure_lag, sound_in_step
from modules.analysis.landmarks import detect_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.media.audio import Sound
from modules.media.rates import FRAME_SAMPLES
from modules.media.video_reader import open_video
from modules.metrics.sync import SoundLag
from modules.procedural.speech import synthesize
from modules.system.errors import UserError
from tests.videos import write_video

NO_LANDMARKS = np.zeros((0, 478, 2))
CONFIG = OffsetConfig()


@cache
def speech() -> tuple[FaceCoefficients, np.ndarray]:
    """Six seconds of a procedural speaker: the face and the sound."""
    said = synthesize(900007, 6.0)
    face = FaceCoefficients.neutral(len(said.expression)).replace(expression=said.expression)
    return face, said.audio.numpy()


@cache
def real_clip(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and sound of a clip."""
    landmarks = detect_clip(open_video(path)[1])
    return landmarks, AudioTrack(path).samples(0, len(landmarks) * FRAME_SAMPLES)


def late(wave: np.ndarray, frames: float) -> np.ndarray:
    """The sound moved to come later, of the same length."""
    return np.roll(wave, round(frames * FRAME_SAMPLES))


@pytest.mark.parametrize("frames", [0.0, 3.4, -6.7])
def test_the_lag_of_procedural_speech_is_found(frames):
    face, wave = speech()
    lag = measure_lag(face, "procedural", NO_LANDMARKS, late(wave, frames), CONFIG)
    assert lag.frames == pytest.approx(frames, abs=0.5) and lag.confidence > CONFIG.confidence


@pytest.mark.parametrize("name", ["talk_man_german_25fps", "talk_woman_25fps", "talk_woman_torso_30fps"])
def test_the_lag_of_a_real_clip_is_as_others_measured_it(media: Path, assets: Path, name: str):
    expected = json.loads((media / "expected.json").read_text())["clips"][f"driving/{name}.mp4"]
    landmarks, wave = real_clip(media / "driving" / f"{name}.mp4")
    face = FaceCoefficients.neutral(len(landmarks))
    lags = [measure_lag(face, "ict", landmarks, late(wave, frames), CONFIG) for frames in (0, 4.25)]
    # The network was trained on mouths at the middle of a frame, the expected numbers are of its beginning.
    assert lags[0].frames == pytest.approx(expected["sound_late_frames_25fps"] - 0.5, abs=0.5)
    assert lags[1].frames - lags[0].frames == pytest.approx(4.25, abs=0.3)
    assert lags[0].confidence > CONFIG.confidence


def test_sound_of_another_speaker_has_no_lag():
    face, _ = speech()
    other = synthesize(900031, 6.0).audio.numpy()
    assert measure_lag(face, "procedural", NO_LANDMARKS, other, CONFIG).confidence < CONFIG.confidence


class Track:
    """A track whose samples are their own numbers."""

    def samples(self, first: int, count: int) -> np.ndarray:
        return np.arange(first, first + count).astype(np.float32)


@pytest.fixture
def lag(monkeypatch):
    """Sets what is measured."""

    def set_lag(frames: float, confidence: float = 0.2) -> None:
        monkeypatch.setattr(sound_offset, "measure_lag", lambda *_: SoundLag(frames=frames, confidence=confidence))

    return set_lag


def in_step(config: OffsetConfig = CONFIG, track=None) -> tuple[np.ndarray | None, float]:
    return sound_in_step(track or Track(), 100, FaceCoefficients.neutral(50), "ict", NO_LANDMARKS, config)


@pytest.mark.parametrize("frames", [0.0, 2.4, -3.75, 10.0])
def test_sound_is_moved_by_the_sample(lag, frames):
    lag(frames)
    wave, was_late = in_step()
    assert was_late == frames and len(wave) == 50 * FRAME_SAMPLES
    assert wave[0] == 100 * FRAME_SAMPLES + round(frames * FRAME_SAMPLES) and (np.diff(wave) == 1).all()


def test_sound_whose_lag_is_unknown_stays_or_is_refused(lag):
    lag(4.0, confidence=0.01)
    wave, was_late = in_step()
    assert wave[0] == 100 * FRAME_SAMPLES and np.isnan(was_late)
    with pytest.raises(UserError, match="do not go together"):
        in_step(OffsetConfig(unknown="refuse"))


def test_sound_that_is_off_by_too_much_is_refused(lag):
    lag(10.6)
    with pytest.raises(UserError, match="late by 10.6 frames"):
        in_step()
    lag(-0.8)
    with pytest.raises(UserError, match="late by -0.8 frames"):
        in_step(OffsetConfig(check="refuse"))
    lag(0.4)
    assert in_step(OffsetConfig(check="refuse"))[0][0] == 100 * FRAME_SAMPLES


def test_nothing_is_measured_where_it_is_switched_off_or_silent(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(sound_offset, "measure_lag", refuse)
    wave, was_late = in_step(OffsetConfig(check="off"))
    assert wave[0] == 100 * FRAME_SAMPLES and np.isnan(was_late)
    path = write_video(tmp_path / "a.mp4", np.zeros((200, 32, 32, 3), np.uint8))
    assert in_step(track=AudioTrack(path))[0] is None


def test_a_clip_that_is_moved_keeps_the_sound_before_and_after_it(lag, tmp_path):
    time = np.arange(200 * FRAME_SAMPLES) / 16_000
    path = write_video(
        tmp_path / "a.mp4", np.zeros((200, 32, 32, 3), np.uint8), Sound.from_samples(0.5 * np.sin(400 * time), 16_000)
    )
    lag(-3.0)
    moved, _ = in_step(track=AudioTrack(path))
    here = AudioTrack(path).samples(97 * FRAME_SAMPLES, 50 * FRAME_SAMPLES)
    np.testing.assert_allclose(moved, here, atol=1e-6)


def test_short_clips_and_missing_networks_say_so(tmp_path):
    face, wave = speech()
    assert measure_lag(face[torch.arange(20)], "procedural", NO_LANDMARKS, wave[: 20 * FRAME_SAMPLES], CONFIG) is None
    with pytest.raises(UserError, match="no checkpoint"):
        lip_sync(str(tmp_path / "nowhere"))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="largest 40"):
        OffsetConfig(largest=40)
