"""The original's audio-to-motion model: passes, gradients, variants (docs/spec/audio2motion.md#12)."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, Reconstruction, SpeechConditions
from modules.audio.pitch import coarse_pitch
from modules.losses import speech as losses
from modules.official.names import load_official
from tests.golden.audio import noise
from tests.golden.file import Golden, checks
from tests.golden.watch import watched

TOLERANCE = 1e-4
BASE = Audio2MotionConfig.full()
AUDIO_ALONE = replace(BASE, pitch=False, blink=False, mouth_amplitude=False)
VARIANTS = {
    "plain": replace(AUDIO_ALONE, condition_size=64, flow_couplings=0, downsample="average"),
    "plainflow": replace(AUDIO_ALONE, condition_size=64, audio_size=13, downsample="average"),
    "eye": replace(BASE, eye_amplitude=True, flow_couplings=0, audio_size=80, motion_size=144),
    "noamp": replace(BASE, mouth_amplitude=False, audio_size=80),
}


def released(g: Golden) -> Audio2Motion:
    return load_official(Audio2Motion(BASE), g.weights(), "audio2motion")


def speech_of(g: Golden, features: Tensor) -> SpeechConditions:
    """The stored conditions; features are zero where a sample has ended."""
    real = g["in.y_mask"].repeat_interleave(2, dim=1)[..., None]
    blink = g["in.blink_unit"].repeat_interleave(2, dim=1)
    eye = g["in.eye_amp"] if "in.eye_amp" in g.npz else None
    return SpeechConditions(features * real, g["in.f0"], blink, g["in.mouth_amp"], eye)


def released_speech(g: Golden) -> SpeechConditions:
    return speech_of(g, noise(g, "a2m.hubert", (*g.shape("in.f0"), 1024), 0.5))


def latent_shape(g: Golden) -> tuple[int, int, int]:
    batch, frames = g.shape("in.y_mask")
    return batch, 16, frames // 4


def reconstruct(g: Golden, model: Audio2Motion) -> tuple[Reconstruction, Tensor]:
    """The training pass, and the true motion."""
    mask = g["in.y_mask"]
    motion = noise(g, "a2m.exp", (*mask.shape, 64), 0.5) * mask[..., None]
    return model.reconstruct(released_speech(g), motion, mask, noise(g, "a2m.noise_q", latent_shape(g))), motion


def divergence(r: Reconstruction) -> Tensor:
    return losses.kl_flow(r.mean, r.log_scale, r.latent, r.prior_latent, r.latent_mask)


@checks("a2m")
@torch.no_grad()
def the_released_model_reconstructs(g: Golden) -> None:
    model, speech = g.once(released), released_speech(g)
    vae = model.vae
    modules = {
        "mel_encoder": model.mel_encoder,
        "pitch_encoder": model.pitch_encoder,
        "g_sqz": vae.g_pre_net,
        "encoder_pre": vae.encoder.pre_net,
        "encoder_wn": vae.encoder.wn,
        "decoder_pre": vae.decoder.pre_net,
        "decoder_wn": vae.decoder.wn,
        **{f"flow{i}": vae.prior_flow.flows[int(i)] for i in g.names(r"train\.mid\.flow(\d+)")},
    }
    with watched(modules) as seen:
        result, _ = reconstruct(g, model)
    g.check(result.motion, "train.out.pred", TOLERANCE)
    g.check(divergence(result), "train.out.loss_kl", TOLERANCE)
    g.equal(coarse_pitch(speech.f0[:, ::2]), "mid.f0_coarse")
    seen |= {
        "m_q": result.mean.mT,
        "logs_q": result.log_scale,
        "z_q": result.latent,
        "mask_sqz": result.latent_mask,
        "z_p": result.prior_latent.mT,
        "cond": model.condition(speech).mT,
    }  # m_q, z_p, cond: time first
    for name, value in seen.items():
        g.check(value, f"train.mid.{name}", TOLERANCE)


def inverse_flow(model: Audio2Motion, latent: Tensor, speech: SpeechConditions) -> Iterator[tuple[int, Tensor]]:
    """Number and result of every step of the prior's inverse."""
    condition, mask = model.vae.g_pre_net(model.condition(speech)), torch.ones_like(latent[:, :1])
    flows = model.vae.prior_flow.flows
    for i in reversed(range(len(flows))):
        latent = flows[i].inverse(latent, mask, condition)
        yield i, latent


@checks("a2m")
@torch.no_grad()
def the_released_model_generates(g: Golden) -> None:
    model, speech = g.once(released), released_speech(g)
    for temperature in g.names(r"infer([\d.]+)\.out\.pred"):
        key = f"infer{temperature}"
        latent = float(temperature) * noise(g, "a2m.noise_p", latent_shape(g))
        with watched({"decoder_wn": model.vae.decoder.wn}) as seen:
            motion = model.decode_noise(speech, latent) * g["in.y_mask"][..., None]
        g.check(motion, f"{key}.out.pred", TOLERANCE)
        g.check(seen["decoder_wn"], f"{key}.mid.decoder_wn", TOLERANCE)
        steps = dict(inverse_flow(model, latent, speech))
        for i in g.names(rf"{key}\.mid\.flow(\d+)"):
            g.check(steps[int(i)], f"{key}.mid.flow{i}", TOLERANCE)
        g.check(steps[0], f"{key}.mid.z", TOLERANCE)


@checks("a2m")
@torch.no_grad()
def the_inference_program_and_its_defaults(g: Golden) -> None:
    model, frames = g.once(released), g.shape("in.f0")[1]
    audio, f0 = noise(g, "a2m.hubert", (1, frames, 1024), 0.5), g["in.f0"][:1]
    latent = 0.2 * noise(g, "a2m.noise_p", (1, *latent_shape(g)[1:]))
    program = SpeechConditions(audio, f0, None, torch.full((1, 1), 0.45))
    g.check(model.decode_noise(program, latent), "program.out.pred", TOLERANCE)
    g.check(model.decode_noise(SpeechConditions(audio, f0), latent), "defaults.out.pred", TOLERANCE)


@checks("a2m")
def gradients_of_the_released_model(g: Golden) -> None:
    model, mask = released(g).train(), g["in.y_mask"]
    result, motion = reconstruct(g, model)
    kl = divergence(result)
    loss = losses.mean_square(result.motion, motion, mask) + 0.02 * kl
    loss.backward()
    g.check(loss, "trainmode.out.loss", TOLERANCE)
    g.check(kl, "trainmode.out.loss_kl", TOLERANCE)
    g.check(result.motion, "trainmode.out.pred", TOLERANCE)
    for name, parameter in model.named_parameters():
        g.check(parameter.grad.norm(), f"trainmode.grad.{name}", TOLERANCE)
    for name in ("running_mean", "running_var"):
        g.check(getattr(model.mel_encoder[1], name), f"trainmode.{name}", TOLERANCE)


@checks("a2m_plain")
@torch.no_grad()
def variants_of_the_model(g: Golden) -> None:
    mask = g["in.y_mask"]
    for variant in g.names(r"(\w+)\.train\.out\.pred"):
        config, prefix = VARIANTS[variant], f"{variant}/"
        weights = {key.removeprefix(prefix): v for key, v in g.weights().items() if key.startswith(prefix)}
        model = load_official(Audio2Motion(config), weights, "audio2motion")
        size, out = config.audio_size, config.motion_size
        speech = speech_of(g, noise(g, f"a2m_plain.audio{size}", (*g.shape("in.f0"), size), 0.5))
        motion = noise(g, f"a2m_plain.motion{out}", (*mask.shape, out), 0.5) * mask[..., None]
        r = model.reconstruct(speech, motion, mask, noise(g, "a2m_plain.noise_q", latent_shape(g)))
        g.check(r.motion, f"{variant}.train.out.pred", TOLERANCE)
        g.check(r.mean.mT, f"{variant}.train.mid.m_q", TOLERANCE)
        g.check(r.prior_latent.mT, f"{variant}.train.mid.z_p", TOLERANCE)
        kl = divergence(r) if config.flow_couplings else losses.kl_normal(r.mean, r.log_scale, r.latent_mask)
        g.check(kl, f"{variant}.train.out.loss_kl", TOLERANCE)
        for temperature in g.names(rf"{variant}\.infer([\d.]+)\.out\.pred"):
            latent = float(temperature) * noise(g, "a2m_plain.noise_p", latent_shape(g))
            generated = model.decode_noise(speech, latent) * mask[..., None]
            g.check(generated, f"{variant}.infer{temperature}.out.pred", TOLERANCE)
