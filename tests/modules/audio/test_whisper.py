import pytest
import torch
from torch.testing import assert_close

from modules.audio.whisper import WhisperConfig, WhisperFeatures, load_whisper, log_mel, sinusoids
from modules.media.rates import HOP, SAMPLE_RATE
from modules.procedural.speech import synthesize
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError

SMALL = WhisperConfig(width=16, heads=2, layers=2, block=24, before=8, after=4)


def small_features(config: WhisperConfig = SMALL, seed: int = 0) -> WhisperFeatures:
    torch.manual_seed(seed)
    return WhisperFeatures(config)


def test_fifty_frames_a_second_of_any_length() -> None:
    features = small_features()
    for samples in (1, HOP - 1, HOP, HOP + 1, 24 * HOP, 24 * HOP + 1, SAMPLE_RATE * 3):
        heard = features(torch.rand(samples) - 0.5)
        assert heard.shape == (-(-samples // HOP), 16) and heard.isfinite().all()
    assert features(torch.zeros(0)).shape == (0, 16)


def test_a_frame_depends_on_its_block_and_the_stated_context_alone(generator: torch.Generator) -> None:
    features, wave = small_features(), torch.rand(100 * HOP, generator=generator) - 0.5
    heard = features(wave)
    first, last = 48, 71  # the third block
    reach = 1  # frames that the mel windows and the convolutions see beyond the context
    start, end = first - SMALL.before - reach, last + 1 + SMALL.after + reach
    outside = wave.clone()
    outside[: start * HOP] = 0.3
    outside[end * HOP :] = -0.2
    assert_close(features(outside)[first : last + 1], heard[first : last + 1], rtol=0, atol=1e-5)
    inside = wave.clone()
    inside[(start + 3) * HOP : (start + 5) * HOP] = 0
    assert (features(inside)[first : last + 1] - heard[first : last + 1]).abs().max() > 1e-3


def test_speech_in_pieces_gives_the_same_frames(generator: torch.Generator) -> None:
    features, wave = small_features(), torch.rand(300 * HOP, generator=generator) - 0.5
    known = features(wave[: 100 * HOP])[: 3 * SMALL.block]  # blocks whose context has come
    assert_close(known, features(wave)[: len(known)], rtol=0, atol=1e-5)


def test_a_part_is_that_of_the_whole_and_reads_no_more_than_it_hears(generator: torch.Generator) -> None:
    features, wave = small_features(), torch.rand(300 * HOP + 11, generator=generator) - 0.5
    whole = features(wave)
    for first, frames in ((0, 24), (24, 50), (264, 37), (288, 13)):
        assert_close(features.part(wave.numpy(), first, frames), whole[first : first + frames], rtol=0, atol=1e-5)
    assert features.part(wave, 288, 40).shape == (40, 16)  # silence behind the end
    with pytest.raises(ValueError, match="multiple of 24"):
        features.part(wave, 7, 24)


def test_frames_stand_where_the_sound_is(generator: torch.Generator) -> None:
    features = small_features(WhisperConfig(width=16, heads=2, layers=1, block=96, before=0, after=0))
    features.layers = torch.nn.Sequential()  # attention sees everything
    wave = 0.2 * torch.randn(96 * HOP, generator=generator)
    other = wave.clone()
    other[40 * HOP : 41 * HOP] = 0.2 * torch.randn(HOP, generator=generator)
    change = (features(wave) - features(other)).square().sum(1)
    centre = (change * (torch.arange(96) + 0.5)).sum() / change.sum()
    assert abs(float(centre) - 40.5) < 0.3


def test_it_is_the_encoder_of_transformers(generator: torch.Generator) -> None:
    from transformers import WhisperConfig as Sizes
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from scripts.convert_whisper import first_layers

    config = WhisperConfig(width=128, heads=2, layers=2, block=100, before=0, after=0)
    torch.manual_seed(1)
    sizes = Sizes(
        d_model=128, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=512, max_source_positions=100
    )
    theirs = WhisperEncoder(sizes).eval()
    theirs.layer_norm = torch.nn.Identity()
    _, state = first_layers({f"model.encoder.{name}": value for name, value in theirs.state_dict().items()}, 2)
    ours = WhisperFeatures(config)
    ours.load_state_dict(state | {"mean": torch.zeros(128), "deviation": torch.ones(128)})
    wave = torch.rand(99 * HOP, generator=generator) - 0.5
    padded = torch.nn.functional.pad(wave, (200 - HOP // 2, 1000))[: 199 * 160 + 400]
    with torch.no_grad():
        expected = theirs(log_mel(padded[None])).last_hidden_state[0]
    assert_close(ours(wave), expected[:99], rtol=1e-4, atol=1e-4)


def test_the_spectrum_is_that_of_transformers() -> None:
    from transformers import WhisperFeatureExtractor

    wave = synthesize(3, 2.0).audio
    padded = torch.nn.functional.pad(wave[None], (200, 200), mode="reflect")[0]
    expected = WhisperFeatureExtractor()(wave.numpy(), sampling_rate=SAMPLE_RATE, padding="do_not_pad").input_features
    ours = log_mel(padded[None])[0]
    assert_close(ours[:, : len(wave) // 160], torch.as_tensor(expected[0]), rtol=1e-3, atol=2e-3)


def test_positions_begin_with_sine_zero_and_cosine_one() -> None:
    table = sinusoids(50, 8)
    assert_close(table[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert_close(table[:, 0], torch.arange(50).float().sin(), rtol=0, atol=1e-5)


def test_features_come_back_from_a_folder(tmp_path) -> None:
    features, wave = small_features(), synthesize(1, 1.0).audio
    save_checkpoint(tmp_path / "w", {"model": to_dict(SMALL)}, {"whisper": features})
    assert_close(load_whisper(tmp_path / "w")(wave), features(wave), rtol=0, atol=0)
    with pytest.raises(UserError, match="config"):
        load_whisper(tmp_path / "nothing")


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        WhisperConfig(width=100, heads=3)
    with pytest.raises(ValueError, match="block"):
        WhisperConfig(block=0)
