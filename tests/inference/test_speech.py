import pytest
import soundfile
import torch

from inference.speech import SpeechToMotion
from modules.checkpoint import save_checkpoint
from modules.errors import UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_there_is_a_frame_for_every_40_ms(talker, speech):
    motion = talker.speech.motion(speech, seeded())
    assert len(motion) == 11 and motion.face_model == "procedural"
    assert float(motion.euler.abs().max()) == 0


def test_seed_temperature_and_amplitude_matter(talker, speech):
    hear = talker.speech.motion
    usual = hear(speech, seeded(), 0.5, 0.45).expression
    assert torch.equal(usual, hear(speech, seeded(), 0.5, 0.45).expression)
    for seed, temperature, amplitude in ((1, 0.5, 0.45), (0, 0.1, 0.45), (0, 0.5, 0.9)):
        assert not torch.allclose(usual, hear(speech, seeded(seed), temperature, amplitude).expression, atol=1e-4)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c", {"model": {}}, {"audio2motion": torch.nn.Linear(1, 1)})
    with pytest.raises(UserError, match="no audio-to-motion checkpoint"):
        SpeechToMotion.load(tmp_path / "c", torch.device("cpu"))


def test_silence_is_not_refused(talker, tmp_path):
    soundfile.write(tmp_path / "silence.wav", torch.zeros(8000).numpy(), 16000)
    assert torch.isfinite(talker.speech.motion(tmp_path / "silence.wav", seeded()).expression).all()
