import av
import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from modules.audio.features import extract, mel_features, mel_spectrogram, read_audio
from modules.system.errors import UserError


def speech_like(seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(16000 * seconds)) / 16000
    return 0.2 * np.sin(2 * np.pi * 150 * t + 3 * np.sin(2 * np.pi * 150 * t)) * (np.sin(2 * np.pi * t) > 0)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_any_format_is_known_by_its_content(tmp_path, kind):
    soundfile.write(tmp_path / f"a.{kind}", speech_like(), 16000)
    disguised = (tmp_path / f"a.{kind}").rename(tmp_path / "speech.MP3")
    wave = read_audio(disguised)
    assert wave.dtype == torch.float32 and abs(len(wave) - 16000) < 400
    assert np.corrcoef(wave[:15600].numpy(), speech_like()[:15600])[0, 1] > 0.9


def test_rate_channels_and_sample_width_are_converted(tmp_path):
    t = np.arange(48000) / 48000
    left = 0.4 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros(48000)], axis=1), 48000, subtype="PCM_24")
    wave = read_audio(tmp_path / "a.wav").numpy()
    assert len(wave) == 16000
    expected = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)          # mean of both channels
    assert np.abs(wave - expected)[100:-100].max() < 1e-3


def test_the_sound_of_a_video_is_read(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        video, audio = container.add_stream("mpeg4", 25), container.add_stream("aac", 16000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(speech_like()[None].astype(np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())
    assert abs(len(read_audio(tmp_path / "v.mp4")) - 16000) < 3000


def test_files_that_are_no_speech_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, speech_like(2.0), 16000)
    cases = {"empty.wav": b"", "text.wav": b"this is no sound at all\n" * 50, "cut.wav": whole.read_bytes()[:20000]}
    words = {"empty.wav": "is empty", "text.wav": "cannot be read", "cut.wav": "truncated"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words[name]) as error:
            read_audio(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no sound file"):
        read_audio(tmp_path / "missing.wav")
    soundfile.write(tmp_path / "short.wav", speech_like()[:300], 16000)
    with pytest.raises(UserError, match="19 ms"):
        read_audio(tmp_path / "short.wav")


def test_a_video_without_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        video = container.add_stream("mpeg4", 25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(video.encode())
    with pytest.raises(UserError, match="no sound track"):
        read_audio(tmp_path / "v.mp4")


@pytest.mark.parametrize("samples", [512, 2560, 2561, 16000])
def test_features_are_whole_groups_and_as_long_as_the_pitch(samples):
    found = extract(torch.randn(samples) * 0.1, "mel")
    assert found.features.shape == (8 * -(-samples // 2560), 80)
    assert found.f0.shape == (len(found),)


def test_mel_features_do_not_depend_on_loudness_and_silence_is_the_floor():
    wave = torch.from_numpy(speech_like(2.0)).float()
    features = mel_features(wave)
    assert_close(features, mel_features(wave * 0.1), rtol=1e-3, atol=1e-2)
    assert features[30:45].max() == features.min() == -1.5           # the voice is off from 0.5 to 1 s
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


def test_an_unknown_kind_or_a_missing_hubert_is_refused():
    for kind in ("hubert", "mfcc"):
        with pytest.raises(ValueError, match=kind):
            extract(torch.zeros(1000), kind)
