from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen import flite, synthetic_speech
from data_gen.run import run
from data_gen.synthetic_speech import SyntheticSpeechConfig, Talk, join, make_clip, prepare, sample_talk, summary
from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.clips.format import Clip
from modules.procedural.head import EXPRESSIONS
from modules.procedural.mouth import MOUTH_SHAPES, PAUSE
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError


@pytest.fixture
def config(tmp_path: Path) -> SyntheticSpeechConfig:
    sizes = WhisperConfig(width=16, heads=2, layers=1, block=32, before=8, after=4)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "whisper", {"model": to_dict(sizes)}, {"whisper": WhisperFeatures(sizes)})
    return SyntheticSpeechConfig(
        folder=f"{tmp_path}/clips", clips=2, seconds=2.0, voices="formant", whisper=f"{tmp_path}/whisper", workers=1
    )


def test_clips_hold_what_the_speech_stages_read_and_no_pictures(config) -> None:
    assert list(prepare(config)) == [2, 0, 1] and list(prepare(config)) == [0]
    clip = Clip(Path(config.folder) / "speech_000001")
    assert len(clip) == 50 and clip.audio().shape == (32_000,) and not (clip.folder / "video.mp4").exists()
    speech = clip.speech("whisper")
    assert speech.features.shape == (104, 16) and speech.f0.shape == (104,)
    assert clip.face.expression[:, EXPRESSIONS.index("jaw_open")].max() > 0.2
    assert summary(config).startswith(f"{config.folder}: 2 clips, 0.1 min of formant speech alone")


def test_a_clip_is_a_function_of_its_seed(config) -> None:
    again = replace(config, folder=config.folder + "2")
    for settings in (config, again):
        make_clip(settings, 7)
    one, two = (Clip(Path(settings.folder) / "speech_000007") for settings in (config, again))
    assert np.array_equal(one.audio(), two.audio()) and torch.equal(one.face.expression, two.face.expression)


def test_the_sounds_cover_the_clip() -> None:
    kinds = set()
    for seed in range(80):
        talk, openness = sample_talk(seed, 3.0, with_flite=False)
        assert talk.ends[-1] >= 3.0 - 1e-6 and len(talk.wave) == 48_000 and set(talk.names) <= MOUTH_SHAPES.keys()
        assert 0.6 < openness < 1.4
        kinds.add(talk.names == (PAUSE,))
    assert kinds == {True, False}  # some are noise alone


def test_talks_join_with_one_pause_between() -> None:
    first = Talk(np.zeros(1600), ("a", PAUSE), np.array([0.06, 0.1]))
    second = Talk(np.ones(3200), (PAUSE, "m"), np.array([0.05, 0.2]))
    both = join([first, second])
    assert both.names == ("a", PAUSE, "m") and np.allclose(both.ends, [0.06, 0.15, 0.3]) and len(both.wave) == 4800
    long = both.cut(8000)
    assert long.names[-1] == PAUSE and np.isclose(long.ends[-1], 0.5) and len(long.wave) == 8000


def test_flite_speaks_at_another_pitch_and_keeps_its_times(monkeypatch) -> None:
    said = flite.Spoken(np.sin(np.arange(16_000) * 0.1), ("a", "m"), np.array([0.5, 1.0]))
    monkeypatch.setattr(flite, "speak", lambda *_: said)
    for share in ("_NOISE_SHARE", "_FORMANT_SHARE"):
        monkeypatch.setattr(synthetic_speech, share, 0.0)
    talk, _ = sample_talk(1, 4.0, True)
    first = talk.names.index("a")
    length = talk.ends[first + 1] - talk.ends[first - 1]
    assert 1 / 1.29 < length < 1 / 0.77 and length != pytest.approx(1.0, abs=1e-6)
    start = round(talk.ends[first - 1] * 16_000)
    assert np.abs(talk.wave[start : start + 400]).max() > 0.9 and np.abs(talk.wave[: start - 50]).max(initial=0) < 0.1


def test_what_is_missing_is_said_before_the_work(config, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(synthetic_speech.flite, "available", lambda: False)
    with pytest.raises(UserError, match="apt-get install flite"):
        next(prepare(replace(config, voices="flite")))
    with pytest.raises(UserError, match="config"):
        next(prepare(replace(config, whisper=f"{tmp_path}/nothing")))
    with pytest.raises(ValueError, match="seconds"):
        replace(config, seconds=0.5)
    (tmp_path / "speech.yaml").write_text("source: synthetic_speech\nfeatures: [hubert]\n")
    with pytest.raises(UserError, match="mel or whisper"):
        run(tmp_path / "speech.yaml", [])
