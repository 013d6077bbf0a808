"""Speech in pieces: the motion does not depend on them, and with look-ahead it is that of the whole sound."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from inference.live_speech import LiveConfig, RecentSound, SpeechStream, live_expression, live_motion
from inference.speech import SpeechStyle
from modules.system.errors import UserError
from tests.inference.conftest import sung


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def loud_first(samples: int) -> np.ndarray:
    """A voice whose loudest moment is its beginning: silence is judged alike from there on."""
    wave = sung(samples)
    wave[2500:2700] *= 1.5
    return wave


def pieces(wave: np.ndarray, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    longest = random.choice([3, 700, 20_000])
    cuts = np.unique(random.integers(0, len(wave), 2 * len(wave) // longest))
    return np.split(wave, cuts)


@pytest.mark.parametrize("kind", ["whisper", "mel"])
@pytest.mark.parametrize("look_ahead", [0.0, 0.3])
def test_pieces_of_any_size_give_the_same_bits(pipeline, whisper_listener, kind, look_ahead):
    speech = {"mel": pipeline.speech, "whisper": whisper_listener}[kind]
    wave, config = sung(3 * 16000 + 77), LiveConfig(look_ahead=look_ahead, temperature=1.0)
    whole = live_expression(speech, [wave], config, seeded())
    assert whole.shape == (76, 64) and whole.std() > 0.01
    for seed in range(4):
        assert torch.equal(live_expression(speech, pieces(wave, seed), config, seeded()), whole)


def test_with_enough_look_ahead_it_is_the_motion_of_the_whole_sound(whisper_listener):
    wave = loud_first(6 * 16000 + 123)
    whole = whisper_listener.expression(wave, seeded(), SpeechStyle(temperature=1.0))
    reach = whisper_listener.model.config.reach
    enough = (reach + 16 + 2) / 50  # the network's, and a block of Whisper with what it hears after it
    live = live_expression(whisper_listener, pieces(wave, 0), LiveConfig(look_ahead=enough, temperature=1.0), seeded())
    torch.testing.assert_close(live, whole, rtol=0, atol=1e-5)
    less = live_expression(whisper_listener, [wave], LiveConfig(look_ahead=0, temperature=1.0), seeded())
    assert 1e-4 < (less - whole).abs().max() < 1 and less.shape == whole.shape


def test_frames_come_when_the_look_ahead_has_been_heard(whisper_listener):
    stream = SpeechStream(whisper_listener, LiveConfig(look_ahead=0.3), seeded())
    wave = sung(16000)
    due = (8 + 16) * 320 + 320  # four frames, 0.32 s, and what a window reads beyond
    assert stream.push(wave[: due - 1]) == []
    assert [part.shape for part in stream.push(wave[due - 1 : due])] == [(4, 64)]
    assert len(stream.push(wave[due:])) == 3 and sum(len(part) for part in stream.finish()) == 25 - 16


@pytest.mark.parametrize("kind", ["whisper", "mel"])
@pytest.mark.parametrize("samples", [1, 640, 641, 2560, 5121, 15999])
def test_there_is_a_frame_for_every_40_ms_that_have_begun(pipeline, whisper_listener, samples, kind):
    speech = {"mel": pipeline.speech, "whisper": whisper_listener}[kind]
    expression = live_expression(speech, [sung(samples + 3000)[3000:]], LiveConfig(), seeded())
    assert 0 <= 640 * len(expression) - samples < 640 and expression.isfinite().all()


def test_memory_does_not_grow_with_the_speech(whisper_listener, pipeline):
    for speech, most in ((whisper_listener, 4), (pipeline.speech, 14)):
        stream = SpeechStream(speech, LiveConfig(), seeded())
        kept = []
        for _ in range(28):
            stream.push(sung(16000))
            path = sum(len(part) for part in stream._pitch._path.heard)
            kept.append((len(stream._sound._kept), len(stream._blocks), stream._noise.shape[2], path))
        assert len(stream) == 28 * 16000
        early, late = np.max(kept[12:20], axis=0), np.max(kept[20:], axis=0)
        assert (late <= early + (2560, 1, 1, 8)).all() and late[0] < most * 16000


def test_the_motion_of_a_file_is_that_of_its_pieces(pipeline, speech, tmp_path):
    config = LiveConfig(look_ahead=0.16)
    motion = live_motion(pipeline.speech, speech, config, seeded())
    wave = soundfile.read(speech, dtype="float32")[0]
    assert torch.equal(motion.expression, live_expression(pipeline.speech, pieces(wave, 1), config, seeded()))
    assert motion.relative and len(motion) == 11 and motion.face_model == "procedural"
    soundfile.write(tmp_path / "short.wav", wave[:500], 16000)
    with pytest.raises(UserError, match="lasts 31 ms"):
        live_motion(pipeline.speech, tmp_path / "short.wav", config, seeded())


def test_a_finished_speech_hears_no_more_and_a_pitch_of_the_whole_is_refused(pipeline):
    stream = SpeechStream(pipeline.speech, LiveConfig(), seeded())
    assert stream.finish() == []
    with pytest.raises(ValueError, match="finished"):
        stream.push(sung(10))
    with pytest.raises(UserError, match="pitch world, which needs the whole sound"):
        SpeechStream(replace(pipeline.speech, pitch="world"), LiveConfig(), seeded())


@pytest.mark.parametrize("wrong", [{"look_ahead": -0.1}, {"look_ahead": 11.0}, {"temperature": -1.0}])
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LiveConfig(**wrong)


def test_look_ahead_is_rounded_up_to_whole_groups():
    assert [LiveConfig(look_ahead=seconds).ahead for seconds in (0, 0.01, 0.16, 0.32, 0.48, 0.5)] == [
        0,
        8,
        8,
        16,
        24,
        32,
    ]


def test_forgotten_sound_is_not_given_as_another():
    sound = RecentSound()
    for start in range(0, 30, 10):
        sound.append(np.arange(start, start + 10, dtype=np.float32))
    sound.forget(12)
    assert len(sound) == 30 and sound[14:17].tolist() == [14, 15, 16] and len(sound[28:40]) == 2
    assert len(sound[40:50]) == 0
    with pytest.raises(IndexError, match="sample 11 is forgotten"):
        sound[11:13]
