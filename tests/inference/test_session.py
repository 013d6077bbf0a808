"""A session: frames while the sound comes are those of the command; it can be cut short, and idles."""

import itertools
import threading
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from inference.motion import Drawing, Motion, natural_pose, periodic_blink
from inference.rig import RigPainter, procedural_rig_photo
from inference.session import CLOSING, Session, SessionConfig
from inference.speech import SpeechStyle
from modules.media.audio import read_mono
from modules.system.errors import UserError
from tests.inference.conftest import sung

AT_ONCE = SessionConfig(look_ahead=0.16, temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def rig_painter(pipeline) -> RigPainter:
    return RigPainter(procedural_rig_photo(900_007, pipeline.face_model, 64), pipeline.face_model, 64, pipeline.device)


@pytest.fixture(params=["planes", "rig"])
def painter(request, portrait, rig_painter):
    return portrait if request.param == "planes" else rig_painter


def offline(pipeline, painter, path, config: SessionConfig) -> np.ndarray:
    """What the command makes of a file with the same seed and look-ahead."""
    drawing = Drawing.of_seed(config.seed)
    motion = pipeline.motion_from_live_speech(path, drawing.lips, config)
    motion = motion.with_pose(*natural_pose(len(motion), drawing.pose))
    motion = motion.with_blink(periodic_blink(len(motion), drawing.blinks))
    if isinstance(painter, RigPainter):
        return np.stack(list(painter.frames(motion, None, pipeline.batch, pipeline.workers)))
    return np.stack(list(pipeline.frames(painter, motion)))


def in_chunks(session: Session, wave: np.ndarray, seed: int, rate: int = 16000) -> np.ndarray:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(wave), 40))
    frames = [frame for chunk in np.split(wave, cuts) for frame in session.push_audio(chunk, rate)]
    return np.stack(frames + session.finish())


def expressions(session: Session) -> list[torch.Tensor]:
    """Rows [64] of the frames, noted as they are painted."""
    rows, paint = [], session._paint

    def noting(motion, part):
        rows.extend(motion.expression[part])
        return paint(motion, part)

    session._paint = noting
    return rows


def test_frames_in_pieces_are_those_of_the_command_on_the_whole_sound(pipeline, painter, tmp_path):
    wave = sung(16000 + 400)
    soundfile.write(tmp_path / "s.wav", wave, 16000, subtype="FLOAT")
    whole = offline(pipeline, painter, tmp_path / "s.wav", AT_ONCE)
    assert whole.shape[:2] == (26, 64) and len(np.unique(whole, axis=0)) > 20
    for seed in range(3):
        frames = in_chunks(pipeline.session(painter, AT_ONCE), wave, seed)
        assert np.array_equal(frames, whole)


def test_with_enough_look_ahead_they_are_those_of_the_command_that_hears_all(pipeline, rig_painter, whisper_listener):
    talker = copy(pipeline)
    talker.speech = whisper_listener  # hears in blocks of 0.32 s
    wave = sung(5 * 16000)
    wave[2500:2700] *= 1.5  # from here on its loudest moment is known
    enough = replace(AT_ONCE, look_ahead=(whisper_listener.model.config.reach + 18) / 50)
    session = talker.session(rig_painter, enough)
    assert len(session.push_audio(wave)) > 12  # before the sound is over
    drawing = Drawing.of_seed(enough.seed)
    style = SpeechStyle(temperature=enough.temperature, mouth_amplitude=enough.mouth_amplitude)
    expression = whisper_listener.expression(wave, drawing.lips, style)
    frames = len(expression)
    pose, blink = natural_pose(frames, drawing.pose), periodic_blink(frames, drawing.blinks)
    whole = np.stack(list(rig_painter.frames(Motion(expression, *pose, blink, "procedural", relative=True))))
    live = in_chunks(talker.session(rig_painter, enough), wave, 0)
    assert np.abs(live.astype(int) - whole).max() <= 1 and (live == whole).mean() > 0.999


def test_other_rates_channels_and_integers_are_heard_as_from_a_file(pipeline, rig_painter, tmp_path):
    wave = np.repeat(sung(16000)[:, None], 2, axis=1) * [1.0, 0.5]
    soundfile.write(tmp_path / "s.wav", wave, 44100, subtype="PCM_16")
    integers = soundfile.read(tmp_path / "s.wav", dtype="int16")[0]
    config = replace(AT_ONCE, look_ahead=0.0)
    whole = offline(pipeline, rig_painter, tmp_path / "s.wav", config)
    assert len(whole) == -(-len(read_mono(tmp_path / "s.wav", 16000)) // 640) == 10
    assert np.array_equal(in_chunks(pipeline.session(rig_painter, config), integers, 0, 44100), whole)


def test_sessions_share_the_threads_that_draw(pipeline, painter):
    def drawing() -> int:
        return sum(thread.name.startswith("frames") for thread in threading.enumerate())

    wave, counts = sung(8_000), []
    sessions = []  # kept, as they are while many speak
    for _ in range(3):
        sessions.append(pipeline.session(painter))
        assert sessions[-1].push_audio(wave) + sessions[-1].finish()
        counts.append(drawing())
    assert counts[0] == counts[2] > 0


def test_frames_come_as_soon_as_they_are_determined(pipeline, painter, portrait):
    session, given = pipeline.session(painter, AT_ONCE), []
    for _ in range(16):
        given.append(len(session.push_audio(sung(640))))
    waits = 0 if painter is not portrait else 3  # frames over which the planes smooth the pose
    made = [4 * max(0, (640 * count - 320 - 8 * 320) // 2560) for count in range(1, 17)]
    assert np.cumsum(given).tolist() == [max(0, count - waits) for count in made]
    assert sum(given) + len(session.finish()) == 16 == session.drawn


def test_an_interrupted_mouth_closes_smoothly_and_what_was_heard_is_dropped(pipeline, painter):
    session = pipeline.session(painter, AT_ONCE)
    rows = expressions(session)
    session.push_audio(sung(20_000))
    spoken = len(rows)
    assert float(rows[-1].abs().max()) > 0.05
    frames = session.interrupt()
    closing = torch.stack(rows[spoken - 1 :]).norm(dim=1)
    assert len(frames) == CLOSING == 7 and CLOSING / 25 <= 0.3
    assert (closing.diff() < 0).all() and float(closing[-1]) == 0
    assert float(closing.diff().abs().max()) < 0.3 * float(closing[0])  # no jump
    assert session.finish() == [] and len(session.idle(3)) == 3 and not torch.stack(rows[-3:]).any()


def test_nobody_speaks_and_the_head_moves_and_blinks(pipeline, rig_painter):
    session, motions = pipeline.session(rig_painter, SessionConfig(seed=1)), []
    session._paint = lambda motion, part: motions.append(motion[part]) or [np.zeros(1)] * (part.stop - part.start)
    for frames in (1, 100, 49):
        assert len(session.idle(frames)) == frames
    whole = list(itertools.accumulate(motions, lambda first, second: first + second))[-1]
    assert len(whole) == 150 == session.drawn and not whole.expression.any()
    assert float(whole.blink.max()) > 0.9 and 0.01 < float(whole.euler.abs().max()) < 0.3
    assert float(whole.euler.diff(dim=0).abs().max()) < 0.02  # radians a frame, over all three calls
    still = pipeline.session(rig_painter, SessionConfig(pose="still", blinks=False))
    assert len(np.unique(np.stack(still.idle(60)), axis=0)) == 1


def test_another_speech_follows_without_a_jump(pipeline, painter):
    session = pipeline.session(painter, AT_ONCE)
    rows = expressions(session)
    in_chunks(session, sung(9_600), 0)
    session.idle(10)
    second = in_chunks(session, sung(9_600), 1)
    assert len(rows) == 15 + 10 + 15 == session.drawn and len(second) == 15
    steps = torch.stack(rows).diff(dim=0).norm(dim=1)
    assert float(steps[24:28].max()) < float(torch.stack(rows[25:]).norm(dim=1).max())
    assert float(rows[25].norm()) < 0.2 * float(rows[29].norm())  # eased in from rest


def test_a_transparent_background_is_one(pipeline, painter):
    session = pipeline.session(painter, AT_ONCE, "transparent")
    assert session.idle(1)[0].shape == (64, 64, 4)


@pytest.mark.parametrize(
    "chunk", [np.zeros(10, np.int32), np.full(10, np.nan), np.zeros((2, 2, 2)), np.zeros((), np.float32)]
)
def test_what_is_no_sound_is_refused(pipeline, rig_painter, chunk):
    with pytest.raises(ValueError, match="finite floats"):
        pipeline.session(rig_painter).push_audio(chunk)


def test_wrong_turns_are_refused_by_name(pipeline, rig_painter, portrait):
    session = pipeline.session(rig_painter)
    session.push_audio(sung(800))
    with pytest.raises(ValueError, match="began with 16000"):
        session.push_audio(sung(800), 8000)
    with pytest.raises(ValueError, match="finish"):
        session.idle(1)
    session.interrupt()
    session.push_audio(sung(800), 8000)
    with pytest.raises(ValueError, match="pose is 'wild'"):
        SessionConfig(pose="wild")
    with pytest.raises(UserError, match="bfm face model"):
        pipeline.session(replace(portrait, face_model="bfm"))
