import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from modules.audio.features import (
    check_audio_size,
    extract,
    mel_features,
    mel_frames,
    mel_spectrogram,
    read_audio,
)
from modules.system.errors import UserError


def speech_like(seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(16000 * seconds)) / 16000
    return 0.2 * np.sin(2 * np.pi * 150 * t + 3 * np.sin(2 * np.pi * 150 * t)) * (np.sin(2 * np.pi * t) > 0)


def test_speech_is_read_at_16_khz_and_must_fill_a_window(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(), 16000, subtype="FLOAT")
    wave = read_audio(tmp_path / "a.wav")
    assert wave.dtype == torch.float32 and np.array_equal(wave.numpy(), speech_like().astype(np.float32))
    soundfile.write(tmp_path / "short.wav", speech_like()[:300], 16000)
    with pytest.raises(UserError, match="19 ms"):
        read_audio(tmp_path / "short.wav")


@pytest.mark.parametrize("samples", [512, 2560, 2561, 16000])
def test_features_are_whole_groups_and_as_long_as_the_pitch(samples):
    audio = extract(torch.randn(samples) * 0.1, "mel")
    assert audio.features.shape == (8 * -(-samples // 2560), 80)
    assert audio.f0.shape == (len(audio),)


def test_mel_features_do_not_depend_on_loudness_and_silence_is_the_floor():
    wave = torch.from_numpy(speech_like(2.0)).float()
    features = mel_features(wave)
    assert_close(features, mel_features(wave * 0.1), rtol=1e-3, atol=1e-2)
    assert features[30:45].max() == features.min() == -1.5  # the voice is off from 0.5 to 1 s
    assert (mel_features(torch.zeros(8000)) == -1.5).all()
    assert 1 < features.max() < 4


def test_a_tone_is_loudest_in_its_band():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)
    bands = {int(b) for b in mel_spectrogram(tone).argmax(dim=1)}
    low = {int(b) for b in mel_spectrogram(torch.sin(2 * torch.pi * 300 * torch.arange(8000) / 16000)).argmax(dim=1)}
    assert len(bands) == 1 and max(low) < min(bands)


def test_pitch_is_found_where_the_voice_is():
    f0 = extract(torch.from_numpy(speech_like(2.0)).float(), "mel").f0
    assert f0[5:20].sub(150).abs().max() < 2 and f0[30:45].max() == 0


def test_an_unknown_kind_or_a_missing_network_is_refused():
    for kind in ("hubert", "whisper", "mfcc"):
        with pytest.raises(ValueError, match=kind):
            extract(torch.zeros(1000), kind)


def test_each_tracker_gives_the_pitch_of_its_name():
    pytest.importorskip("pyworld")
    wave = torch.from_numpy(speech_like(2.0)).float()
    praat, world = extract(wave), extract(wave, pitch="world")
    assert (praat.pitch, world.pitch) == ("praat", "world") and torch.equal(praat.features, world.features)
    for audio in (praat, world):
        assert audio.f0[8:20].sub(150).abs().max() < 2 and audio.f0[32:45].max() == 0
    assert not torch.equal(praat.f0, world.f0)


class Levels(torch.nn.Module):
    """Stands for HuBERT: the number of samples under each frame that are not silence."""

    def forward(self, waveform):
        return (waveform.unfold(0, 400, 320) != 0).sum(dim=1, keepdim=True).float()


@pytest.mark.parametrize("samples", [512, 2560, 2561, 6401])
def test_whisper_features_are_whole_groups_of_frames_that_all_heard_something(samples):
    heard = []
    features = extract(
        torch.ones(samples), "whisper", lambda wave: heard.append(wave) or wave.view(-1, 320).mean(1, keepdim=True)
    ).features[:, 0]
    assert len(features) == 8 * -(-samples // 2560) == len(heard[0]) // 320
    assert features[: samples // 320].min() == 1 and not features[-(-samples // 320) :].any()


@pytest.mark.parametrize("samples", [2560, 6400, 6401, 7039])
def test_the_last_video_frame_hears_all_of_itself(samples):
    heard, frames = extract(torch.ones(samples), "hubert", Levels()).features[:, 0], -(-samples // 640)
    assert len(heard) == -(-frames // 4) * 8 and not heard[2 * frames :].any()
    assert heard[: 2 * (samples // 640)].min() >= 320  # of whole video frames, both audio frames
    assert heard[: 2 * (samples // 640) - 1].min() == 400


def test_released_models_lack_the_last_audio_frame():
    whole, released = (extract(torch.ones(6400), "hubert", Levels(), end).features[:, 0] for end in (True, False))
    assert released[18] == whole[18] == 400 and (released[19], whole[19]) == (0, 320)


def test_the_number_of_mel_frames_is_known_without_them():
    assert [mel_frames(n) for n in (512, 2560, 2561)] == [len(mel_features(torch.zeros(n))) for n in (512, 2560, 2561)]


def test_a_network_must_be_as_wide_as_its_features():
    check_audio_size("mel", 80)
    check_audio_size("hubert", 768)
    check_audio_size("whisper", 384)
    for kind, size in (("mel", 1024), ("hubert", 80), ("whisper", 80)):
        with pytest.raises(ValueError, match=f"features {kind} have .* model.audio_size is {size}"):
            check_audio_size(kind, size)
