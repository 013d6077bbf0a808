from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, SpeechConditions
from modules.losses import speech as losses

TINY = Audio2MotionConfig(
    audio_size=5,
    condition_size=8,
    width=8,
    encoder_layers=2,
    decoder_layers=2,
    flow_width=8,
    flow_layers=1,
    flow_couplings=2,
    downsample="average",
)


@pytest.fixture
def model() -> Audio2Motion:
    torch.manual_seed(0)
    return Audio2Motion(TINY).eval()


def speech(frames: int = 32, batch: int = 2) -> SpeechConditions:
    random = torch.Generator().manual_seed(1)
    return SpeechConditions(
        torch.randn(batch, frames, 5, generator=random), 200 * torch.rand(batch, frames, generator=random)
    )


def test_half_as_many_motion_frames_as_audio_frames(model, generator):
    s = speech()
    motion = model.generate(s.audio, s.f0, generator=generator)
    assert motion.shape == (2, 16, 64) and torch.isfinite(motion).all()


def test_a_seed_means_the_same_motion_and_the_temperature_scales_the_variety(model):
    s = speech()

    def motion(seed: int, temperature: float) -> torch.Tensor:
        return model.generate(s.audio, s.f0, generator=torch.Generator().manual_seed(seed), temperature=temperature)

    assert_close(motion(1, 0.5), motion(1, 0.5))
    assert_close(motion(1, 0.0), motion(2, 0.0))
    assert (motion(1, 1.0) - motion(2, 1.0)).norm() > (motion(1, 0.1) - motion(2, 0.1)).norm() > 0


def test_every_condition_changes_the_motion(model):
    s = speech()
    noise = torch.zeros(2, 16, 4)
    base = model.decode_noise(s, noise)
    changes = {
        "audio": s.audio + 1,
        "f0": s.f0 + 100,
        "blink": torch.ones(2, 32, 1, dtype=torch.long),
        "mouth_amplitude": torch.ones(2, 1),
    }
    for name, value in changes.items():
        assert not torch.allclose(model.decode_noise(replace(s, **{name: value}), noise), base), name


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("pitch", {"f0": torch.full((2, 32), 300.0)}),
        ("blink", {"blink": torch.ones(2, 32, 1, dtype=torch.long)}),
        ("mouth_amplitude", {"mouth_amplitude": torch.ones(2, 1)}),
    ],
)
def test_a_condition_that_is_left_out_changes_nothing(condition, value, model):
    s, noise = speech(), torch.zeros(2, 16, 4)
    without = Audio2Motion(replace(TINY, **{condition: False})).eval()
    assert torch.equal(without.decode_noise(s, noise), without.decode_noise(replace(s, **value), noise))
    assert without.config.conditions == model.config.conditions - 1 == 3
    assert without.cond_proj.in_features == 3 * 8


def test_missing_conditions_have_their_defaults(model):
    s = speech()
    given = replace(s, blink=torch.zeros(2, 32, 1, dtype=torch.long), mouth_amplitude=torch.full((2, 1), 0.4))
    noise = torch.zeros(2, 16, 4)
    assert_close(model.decode_noise(s, noise), model.decode_noise(given, noise))


def test_averaging_uses_odd_frames_and_nearest_does_not(model):
    s, noise = speech(), torch.zeros(2, 16, 4)
    odd = s.audio.clone()
    odd[:, 1::2] += 1
    assert not torch.allclose(model.decode_noise(s, noise), model.decode_noise(replace(s, audio=odd), noise))
    nearest = Audio2Motion(replace(TINY, downsample="nearest")).eval()
    assert_close(nearest.decode_noise(s, noise), nearest.decode_noise(replace(s, audio=odd), noise))


def test_averaged_pitch_ignores_unvoiced_frames(model):
    s, noise = speech(), torch.zeros(2, 16, 4)
    half = torch.full_like(s.f0, 150.0)
    half[:, 1::2] = 0
    assert_close(
        model.decode_noise(replace(s, f0=half), noise),
        model.decode_noise(replace(s, f0=torch.full_like(s.f0, 150.0)), noise),
    )


def test_padding_does_not_change_the_reconstruction_of_real_frames(model, generator):
    s = speech()
    motion, noise = torch.randn(2, 16, 64, generator=generator), torch.randn(2, 16, 4, generator=generator)
    mask = torch.ones(2, 16)
    mask[1, 8:] = 0
    motion[1, 8:] = 0
    result = model.reconstruct(s, motion, mask, noise)
    assert result.motion[1, 8:].abs().max() == 0
    assert result.latent_mask.sum() == 6


def test_training_reaches_all_parameters(model, generator):
    s = replace(speech(), blink=torch.randint(2, (2, 32, 1), generator=generator))
    motion, noise = torch.randn(2, 16, 64, generator=generator), torch.randn(2, 16, 4, generator=generator)
    for flow in model.vae.prior_flow.flows[::2]:
        torch.nn.init.normal_(flow.post.weight)  # zero at first: nothing behind it would learn
    r = model.train().reconstruct(s, motion, torch.ones(2, 16), noise)
    kl = losses.kl_flow(r.mean, r.log_scale, r.latent, r.prior_latent, r.latent_mask)
    (r.motion.square().mean() + kl).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


def test_sizes_of_the_two_presets():
    def count(config: Audio2MotionConfig) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in Audio2Motion(config).parameters())

    assert count(Audio2MotionConfig.full()) == 11_864_064  # docs/spec/audio2motion.md#2
    assert count(Audio2MotionConfig.demo()) < 1_500_000


@pytest.mark.parametrize("change", [{"latent_size": 15}, {"downsample": "cubic"}, {"width": 0}])
def test_bad_sizes_are_refused_with_their_value(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        replace(TINY, **change)


@pytest.mark.parametrize(("audio", "f0"), [((1, 12, 5), (1, 12)), ((1, 16, 5), (1, 15)), ((1, 0, 5), (1, 0))])
def test_lengths_that_do_not_fit_are_refused(audio, f0):
    with pytest.raises(ValueError, match="must be"):
        SpeechConditions(torch.zeros(audio), torch.zeros(f0))


def test_bfloat16(model, generator):
    s = speech()
    motion = model.bfloat16().generate(s.audio.bfloat16(), s.f0, generator=generator)
    assert motion.dtype == torch.bfloat16 and torch.isfinite(motion).all()
