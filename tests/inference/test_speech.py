from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel

import inference.speech
from inference.motion import periodic_blink
from inference.options import DEMO_SPEECH
from inference.run import parse
from inference.speech import USUAL_STYLE, SpeechStyle, SpeechToMotion, blink_condition
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, SpeechConditions
from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tests.inference.conftest import sung


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def hubert_listener(tmp_path) -> SpeechToMotion:
    """A checkpoint that listens with HuBERT, and a tiny HuBERT in a folder, both with random weights."""
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "conv_dim": (4,) * 7,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    config = Audio2MotionConfig(
        audio_size=8, condition_size=8, width=8, encoder_layers=1, decoder_layers=1, flow_couplings=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        HubertModel(HubertConfig(**sizes)).save_pretrained(tmp_path / "hubert")
        save_checkpoint(
            tmp_path / "c",
            {"model": to_dict(config), "features": "hubert", "face_model": "bfm", "hubert": str(tmp_path / "hubert")},
            {"audio2motion": Audio2Motion(config)},
        )
    return SpeechToMotion.load(tmp_path / "c", torch.device("cpu"))


class Heard:
    """A sound that remembers how much of it was held at once."""

    def __init__(self, wave: np.ndarray) -> None:
        self.wave, self.largest = wave, 0

    def __len__(self) -> int:
        return len(self.wave)

    def __getitem__(self, part: slice) -> np.ndarray:
        piece = self.wave[part]
        self.largest = max(self.largest, len(piece))
        return piece


@pytest.mark.parametrize("part", [16, 32, 80])
def test_speech_in_parts_gives_the_motion_of_the_whole(whisper_listener, monkeypatch, part):
    wave = sung(6 * 16000 + 123)
    monkeypatch.setattr(inference.speech, "_PART", 1 << 20)
    whole = whisper_listener.expression(wave, seeded(), SpeechStyle(temperature=1.0, blinks=True))
    monkeypatch.setattr(inference.speech, "_PART", part)
    parts = whisper_listener.expression(wave, seeded(), SpeechStyle(temperature=1.0, blinks=True))
    assert whole.shape == (151, 64) and whole.std() > 0.01
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_a_part_hears_all_that_its_motion_depends_on(whisper_listener):
    model = whisper_listener.model.double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():  # the flow starts as the identity, which hears nothing
            torch.nn.init.normal_(parameter, std=0.3)
    audio = torch.randn(1, 640, 8, dtype=torch.float64, requires_grad=True)
    noise = torch.zeros(1, 16, 80, dtype=torch.float64)
    motion = model.decode_noise(SpeechConditions(audio, torch.zeros(1, 640)), noise)
    motion[0, 160].sum().backward()
    heard = audio.grad[0].abs().sum(1).nonzero()[:, 0]
    assert 320 - model.config.reach <= heard.min() < 310 and 330 < heard.max() < 322 + model.config.reach


def test_no_more_than_a_part_of_long_speech_is_held(whisper_listener, monkeypatch):
    monkeypatch.setattr(inference.speech, "_PART", 128)
    largest = []
    for seconds in (14, 28):
        heard = Heard(sung(seconds * 16000))
        assert len(whisper_listener.expression(heard, seeded())) == 25 * seconds
        largest.append(heard.largest)
    assert largest[0] == largest[1] < 11 * 16000


@pytest.mark.parametrize("samples", [512, 640, 641, 4880, 5119, 5120, 5121, 7040, 15999])
@pytest.mark.parametrize("kind", ["mel", "hubert", "whisper"])
def test_there_is_a_frame_for_every_40_ms_that_have_begun(
    pipeline, hubert_listener, whisper_listener, tmp_path, samples, kind
):
    soundfile.write(tmp_path / "s.wav", 0.1 * np.random.default_rng(0).standard_normal(samples), 16000)
    listener = {"mel": pipeline.speech, "hubert": hubert_listener, "whisper": whisper_listener}[kind]
    motion = listener.motion(tmp_path / "s.wav", seeded())
    assert 0 <= 640 * len(motion) - samples < 640
    assert motion.face_model == listener.face_model and float(motion.euler.abs().max()) == 0


def test_the_length_is_right_at_other_sampling_rates(pipeline, tmp_path):
    for rate in (8000, 22050, 44100, 48000):
        soundfile.write(tmp_path / "s.wav", 0.1 * np.random.default_rng(0).standard_normal(int(1.5 * rate)), rate)
        assert 0 <= len(pipeline.speech.motion(tmp_path / "s.wav", seeded())) / 25 - 1.5 < 0.04 + 1e-9


def test_another_hubert_than_the_one_of_the_checkpoint_can_be_given(hubert_listener, tmp_path, speech):
    other = SpeechToMotion.load(tmp_path / "c", torch.device("cpu"), hubert=str(tmp_path / "nowhere" / "else"))
    with pytest.raises(UserError, match="no HuBERT .*nowhere"):
        other.motion(speech, seeded())
    HubertModel(
        HubertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            conv_dim=(4,) * 7,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(tmp_path / "wide")
    wide = SpeechToMotion.load(tmp_path / "c", torch.device("cpu"), hubert=str(tmp_path / "wide"))
    with pytest.raises(UserError, match="gives 16 numbers a frame, the checkpoint listens to 8"):
        wide.motion(speech, seeded())


def test_seed_temperature_and_amplitude_matter(pipeline, speech):
    hear = pipeline.speech.motion
    lively = SpeechStyle(temperature=0.5)
    usual = hear(speech, seeded(), lively).expression
    assert torch.equal(usual, hear(speech, seeded(), lively).expression)
    for seed, style in ((1, lively), (0, SpeechStyle(temperature=0.1)), (0, replace(lively, mouth_amplitude=0.9))):
        assert not torch.allclose(usual, hear(speech, seeded(seed), style).expression, atol=1e-4)


def test_the_command_speaks_as_the_library_does():
    options = parse([])
    assert (options.temperature, options.mouth_amplitude) == (USUAL_STYLE.temperature, USUAL_STYLE.mouth_amplitude)


def test_the_model_s_own_blinks_are_those_of_the_periodic_ones(pipeline, speech):
    closing = periodic_blink(300, seeded(3))[:, 0]
    units = blink_condition(600, seeded(3))
    assert units.shape == (1, 600, 1) and torch.equal(units[:, ::2], units[:, 1::2])
    frames = units[0, ::2, 0].nonzero()[:, 0]
    assert len(frames) == 2 and (closing[frames] > 0.9).all()  # where the eyes are most closed


def test_the_model_hears_of_blinks_when_it_is_asked_for_them(pipeline):
    styles = (SpeechStyle(temperature=0.0, blinks=blinks) for blinks in (False, True))
    without, with_them = (pipeline.speech.motion(DEMO_SPEECH, seeded(), style) for style in styles)
    blinks = blink_condition(2 * len(without), seeded())[0, ::2, 0].nonzero()[:, 0]
    change = (with_them.expression - without.expression).abs().amax(dim=1)  # [T]
    assert len(blinks) == 1 and change.argmax().sub(blinks).abs() <= 4
    assert change[blinks] > 10 * change[:20].max()  # and nowhere else
    assert float(with_them.blink.abs().max()) == 0  # nothing is painted over it


def test_blinks_of_a_model_without_them_are_refused(hubert_listener, speech):
    plain = Audio2Motion(replace(hubert_listener.model.config, blink=False))
    with pytest.raises(UserError, match="has no blinks"):
        replace(hubert_listener, model=plain).motion(speech, seeded(), SpeechStyle(blinks=True))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c", {"model": {}}, {"audio2motion": torch.nn.Linear(1, 1)})
    with pytest.raises(UserError, match="no audio-to-motion checkpoint"):
        SpeechToMotion.load(tmp_path / "c", torch.device("cpu"))


def test_missing_or_other_whisper_layers_are_explained(whisper_listener, speech, tmp_path):
    nowhere = replace(whisper_listener, whisper=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no folder .*nowhere.*scripts\.convert_whisper"):
        nowhere.motion(speech, seeded())
    sizes = WhisperConfig(width=16, heads=2, layers=1, block=16, before=4, after=2)
    save_checkpoint(tmp_path / "wide", {"model": to_dict(sizes)}, {"whisper": WhisperFeatures(sizes)})
    with pytest.raises(UserError, match="gives 16 numbers a frame, the checkpoint listens to 8"):
        replace(whisper_listener, whisper=tmp_path / "wide").motion(speech, seeded())


def test_features_of_an_unknown_kind_are_named(tmp_path):
    save_checkpoint(tmp_path / "c", {"model": {}, "features": "mfcc"}, {"audio2motion": torch.nn.Linear(1, 1)})
    with pytest.raises(UserError, match="is mfcc, none of hubert, mel, whisper"):
        SpeechToMotion.load(tmp_path / "c", torch.device("cpu"))


def test_speech_is_heard_with_the_pitch_of_the_training(hubert_listener, tmp_path, speech, monkeypatch):
    heard, found = [], inference.speech.pitch_frames

    def noted(waveform, frames, pitch):
        heard.append(pitch)
        return found(waveform, frames, "praat")

    monkeypatch.setattr(inference.speech, "pitch_frames", noted)
    hubert_listener.motion(speech, seeded())  # of an earlier version, which names no pitch
    config = tmp_path / "c" / "config.yaml"
    config.write_text(config.read_text() + "pitch: world\n")
    SpeechToMotion.load(tmp_path / "c", torch.device("cpu")).motion(speech, seeded())
    assert heard == ["praat", "world"]
    config.write_text(config.read_text().replace("world", "yin"))
    with pytest.raises(UserError, match="pitch in its config.yaml is yin, none of praat, world"):
        SpeechToMotion.load(tmp_path / "c", torch.device("cpu"))


def test_silence_is_not_refused(pipeline, tmp_path):
    soundfile.write(tmp_path / "silence.wav", torch.zeros(8000).numpy(), 16000)
    assert torch.isfinite(pipeline.speech.motion(tmp_path / "silence.wav", seeded()).expression).all()


def test_hubert_is_loaded_once(hubert_listener, speech, monkeypatch):
    loaded, load = [], inference.speech.load_hubert
    monkeypatch.setattr(inference.speech, "load_hubert", lambda source: loaded.append(source) or load(source))
    first, second = (hubert_listener.motion(speech, seeded()).expression for _ in range(2))
    assert loaded == [hubert_listener.hubert] and torch.equal(first, second)


def test_only_new_models_hear_the_whole_end(hubert_listener, speech, monkeypatch):
    heard, extracted = [], inference.speech.feature_frames
    monkeypatch.setattr(inference.speech, "feature_frames", lambda *given: heard.append(given[3]) or extracted(*given))
    hubert_listener.motion(speech, seeded())
    new = replace(hubert_listener, model=Audio2Motion(replace(hubert_listener.model.config, downsample="average")))
    new.motion(speech, seeded())
    assert heard == [False, True]
