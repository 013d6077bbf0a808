"""Speech to facial motion: a VAE over expression coefficients with a flow prior (paper, audio-to-motion).

See docs/spec/audio2motion.md#2 and #3.

Sequences are [B, T, C] at the public edge and [B, C, T] inside. Audio features have 50 frames a second, motion 25,
latents 6.25.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from modules.audio.flow import CouplingFlow, GatedConvolutions
from modules.audio.pitch import coarse_pitch

DEFAULT_AMPLITUDE = 0.4


@dataclass(frozen=True, kw_only=True)
class Audio2MotionConfig:
    """Sizes and conditions; the defaults are the released model's (docs/spec/audio2motion.md#2)."""

    audio_size: int = 1024  # A, width of an audio feature: HuBERT-large 1024, Whisper tiny 384, mel 80
    motion_size: int = 64  # expression coefficients; 144 = identity and expression
    condition_size: int = 128  # G
    latent_size: int = 16
    width: int = 256  # of encoder and decoder
    kernel: int = 5
    encoder_layers: int = 8
    decoder_layers: int = 4
    flow_width: int = 64
    flow_kernel: int = 3
    flow_layers: int = 4
    flow_couplings: int = 4  # 0 = no flow: standard normal prior
    pitch: bool = True  # conditions beside the audio
    blink: bool = True
    mouth_amplitude: bool = True
    eye_amplitude: bool = False
    downsample: Literal["nearest", "average"] = "nearest"  # 50 -> 25 Hz; new models: average, which loses no frame

    def __post_init__(self) -> None:
        for name in ("audio_size", "motion_size", "condition_size", "width", "encoder_layers", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.latent_size % 2:
            raise ValueError(f"latent_size is {self.latent_size}; it must be even")
        if self.downsample not in ("nearest", "average"):
            raise ValueError(f"downsample is {self.downsample!r}; choose nearest or average")

    @property
    def conditions(self) -> int:
        """How many conditions there are, the audio included."""
        return 1 + self.pitch + self.blink + self.mouth_amplitude + self.eye_amplitude

    @property
    def reach(self) -> int:
        """Audio frames to either side on which a frame of motion depends, rounded up to whole latents."""
        latents = self.flow_couplings * self.flow_layers * (self.flow_kernel // 2) + 2  # 2: strided convolutions
        frames = self.decoder_layers * (self.kernel // 2) + 2  # 2: convolutions of the conditions
        return 8 * (latents + -(-frames // 4))

    @property
    def hears_whole_end(self) -> bool:
        """Whether the model's last frame hears all of itself (`extract`); that of the released weights never did."""
        return self.downsample != "nearest"

    @classmethod
    def full(cls) -> "Audio2MotionConfig":
        """The released model: 11 864 064 parameters."""
        return cls()

    @classmethod
    def demo(cls) -> "Audio2MotionConfig":
        """A small model on Whisper features for the shipped demo."""
        return cls(
            audio_size=384,
            condition_size=96,
            width=96,
            encoder_layers=3,
            decoder_layers=4,
            flow_width=32,
            flow_layers=2,
            downsample="average",
        )


@dataclass(frozen=True)
class SpeechConditions:
    """The conditions of the motion.

    Args:
        audio: [B, Tx, A] features at 50 Hz, Tx a multiple of 8.
        f0: [B, Tx] Hz, 0 = unvoiced.
        blink: [B, Tx, 1] integers 0 or 1; None = no blinks.
        mouth_amplitude: [B, 1] dm; None = 0.4.
        eye_amplitude: [B, 1] dm; None = 0.4 (only for models that use it).
    """

    audio: Tensor
    f0: Tensor
    blink: Tensor | None = None
    mouth_amplitude: Tensor | None = None
    eye_amplitude: Tensor | None = None

    def __post_init__(self) -> None:
        if self.audio.ndim != 3 or self.audio.shape[1] % 8 or self.audio.shape[1] == 0:
            raise ValueError(f"audio is {tuple(self.audio.shape)}; it must be [B, Tx, A] with Tx a multiple of 8")
        if self.f0.shape != self.audio.shape[:2]:
            raise ValueError(f"f0 is {tuple(self.f0.shape)}; it must be {tuple(self.audio.shape[:2])}")


@dataclass(frozen=True)
class Reconstruction:
    """What the training pass gives.

    Args:
        motion: [B, T, D] expression coefficients, 0 where padded.
        mean, log_scale, latent, prior_latent: [B, C, T/4]; posterior, its sample, the sample in the prior's space.
        latent_mask: [B, 1, T/4], 1 on real frames.
    """

    motion: Tensor
    mean: Tensor
    log_scale: Tensor
    latent: Tensor
    prior_latent: Tensor
    latent_mask: Tensor


class MotionEncoder(nn.Module):
    """Motion -> posterior over latents at a quarter of the frame rate (docs/spec/audio2motion.md#2-6)."""

    def __init__(self, config: Audio2MotionConfig) -> None:
        super().__init__()
        self.pre_net = nn.Sequential(nn.Conv1d(config.motion_size, config.width, 8, stride=4, padding=2))
        self.wn = GatedConvolutions(config.width, config.kernel, config.encoder_layers, config.condition_size)
        self.out_proj = nn.Conv1d(config.width, 2 * config.latent_size, 1)

    def forward(self, motion: Tensor, mask: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """motion [B, D, T], latent mask [B, 1, T/4], condition [B, G, T/4] -> mean, log scale [B, C, T/4]."""
        x = self.pre_net(motion) * mask
        mean, log_scale = self.out_proj(self.wn(x, mask, condition)).chunk(2, dim=1)
        return mean, log_scale


class MotionDecoder(nn.Module):
    """Latents and audio conditions -> motion (docs/spec/audio2motion.md#2-8)."""

    def __init__(self, config: Audio2MotionConfig) -> None:
        super().__init__()
        self.pre_net = nn.Sequential(nn.ConvTranspose1d(config.latent_size, config.width, 4, stride=4))
        self.wn = GatedConvolutions(config.width, config.kernel, config.decoder_layers, config.condition_size)
        self.out_proj = nn.Conv1d(config.width, config.motion_size, 1)

    def forward(self, latent: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """latent [B, C, T/4], mask [B, 1, T], condition [B, G, T] -> motion [B, D, T]."""
        x = self.pre_net(latent) * mask
        return self.out_proj(self.wn(x, mask, condition))


class MotionVAE(nn.Module):
    """Encoder, decoder, prior and the condition at the latents' rate (docs/spec/audio2motion.md#2-5)."""

    def __init__(self, config: Audio2MotionConfig) -> None:
        super().__init__()
        size = config.condition_size
        self.g_pre_net = nn.Sequential(nn.Conv1d(size, size, 8, stride=4, padding=2))
        self.encoder = MotionEncoder(config)
        if config.flow_couplings:
            self.prior_flow = CouplingFlow(
                config.latent_size,
                config.flow_width,
                config.flow_kernel,
                config.flow_layers,
                config.flow_couplings,
                size,
            )
        self.decoder = MotionDecoder(config)


def _convolutions(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, width, 3, padding=1, bias=False),
        nn.BatchNorm1d(width),
        nn.GELU(),
        nn.Conv1d(width, width, 3, padding=1, bias=False),
    )


class Audio2Motion(nn.Module):
    """Audio features and pitch -> expression coefficients at 25 frames a second (paper, audio-to-motion)."""

    def __init__(self, config: Audio2MotionConfig) -> None:
        super().__init__()
        self.config = config
        size = config.condition_size
        self.mel_encoder = _convolutions(config.audio_size, size)
        self.blink_embed = nn.Embedding(2, size)  # also in the official model of audio alone, which ignores it
        if config.pitch:
            self.pitch_embed = nn.Embedding(300, size)
            nn.init.normal_(self.pitch_embed.weight, std=size**-0.5)
            self.pitch_encoder = _convolutions(size, size)
        if config.mouth_amplitude:
            self.mouth_amp_embed = nn.Parameter(torch.randn(size))
        if config.eye_amplitude:
            self.eye_amp_embed = nn.Parameter(torch.randn(size))
        if config.conditions > 1:
            self.cond_proj = nn.Linear(config.conditions * size, size)
        self.vae = MotionVAE(config)

    def condition(self, speech: SpeechConditions) -> Tensor:
        """The conditions at 25 Hz -> [B, G, T] (docs/spec/audio2motion.md#2-2); padding is not masked."""
        audio = self._halve(speech.audio)  # [B, T, A]
        batch, frames = audio.shape[:2]
        parts = [self.mel_encoder(rearrange(audio, "b t a -> b a t"))]
        if self.config.pitch:
            coarse = coarse_pitch(self._halve_pitch(speech.f0))
            parts.append(self.pitch_encoder(rearrange(self.pitch_embed(coarse), "b t c -> b c t").to(parts[0])))
        if self.config.blink:
            blink = speech.blink
            if blink is None:
                blink = torch.zeros(*speech.f0.shape, 1, dtype=torch.long, device=audio.device)
            parts.append(rearrange(self.blink_embed(blink[:, ::2, 0].long()), "b t c -> b c t"))
        if self.config.mouth_amplitude:
            parts.append(_amplitude(speech.mouth_amplitude, self.mouth_amp_embed, batch, frames))
        if self.config.eye_amplitude:
            parts.append(_amplitude(speech.eye_amplitude, self.eye_amp_embed, batch, frames))
        if len(parts) == 1:
            return parts[0]
        joined = torch.cat([part.to(parts[0]) for part in parts], dim=1)
        return rearrange(self.cond_proj(rearrange(joined, "b c t -> b t c")), "b t c -> b c t")

    def reconstruct(self, speech: SpeechConditions, motion: Tensor, mask: Tensor, noise: Tensor) -> Reconstruction:
        """The training pass (docs/spec/audio2motion.md#2-9).

        Args:
            motion: [B, T, D] target coefficients, 0 where padded.
            mask: [B, T], 1 on real frames.
            noise: [B, C, T/4] standard normal.
        Returns:
            The reconstructed motion, and what the KL term needs.
        """
        g = self.condition(speech)
        s = self.vae.g_pre_net(g)
        frame_mask = mask[:, None]  # [B, 1, T]
        latent_mask = frame_mask[:, :, ::4]
        mean, log_scale = self.vae.encoder(rearrange(motion, "b t d -> b d t"), latent_mask, s)
        latent = mean + noise * log_scale.exp()
        prior_latent = latent
        if self.config.flow_couplings:
            prior_latent = self.vae.prior_flow(latent, latent_mask, s)
        decoded = self.vae.decoder(latent, frame_mask, g) * frame_mask
        return Reconstruction(rearrange(decoded, "b d t -> b t d"), mean, log_scale, latent, prior_latent, latent_mask)

    def decode_noise(self, speech: SpeechConditions, noise: Tensor) -> Tensor:
        """Prior noise [B, C, T/4], already scaled by the temperature -> motion [B, T, D] at 25 Hz.

        See docs/spec/audio2motion.md#2-10.
        """
        g = self.condition(speech)
        s = self.vae.g_pre_net(g)
        everywhere = torch.ones_like(g[:, :1])  # the mask is 1 in this pass
        latent = noise
        if self.config.flow_couplings:
            latent = self.vae.prior_flow.inverse(noise, everywhere[:, :, ::4], s)
        return rearrange(self.vae.decoder(latent, everywhere, g), "b d t -> b t d")

    def noise(
        self, batch: int, audio_frames: int, generator: torch.Generator | None, temperature: float = 1.0
    ) -> Tensor:
        """Normal noise [B, C, Tx/8] of deviation `temperature` for Tx = `audio_frames`, drawn on the CPU."""
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; it must be at least 0")
        return temperature * torch.randn(batch, self.config.latent_size, audio_frames // 8, generator=generator)

    @torch.no_grad()
    def generate(
        self,
        audio: Tensor,
        f0: Tensor,
        blink: Tensor | None = None,
        mouth_amplitude: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 0.2,
    ) -> Tensor:
        """Motion for whole sentences; batch only sentences of equal length (padding would be heard as speech).

        Args:
            audio: [B, Tx, A] at 50 Hz, Tx a multiple of 8.
            f0: [B, Tx] Hz, 0 = unvoiced.
            blink: [B, Tx, 1] integers, None = none.
            mouth_amplitude: [B, 1] dm, None = 0.4; larger = wider.
            generator: of the noise; None: PyTorch's own.
            temperature: scale of the noise, at least 0; 0 = the most likely motion.
        Returns:
            [B, Tx/2, D] expression coefficients, 25 frames a second.
        """
        noise = self.noise(audio.shape[0], audio.shape[1], generator, temperature)
        return self.decode_noise(SpeechConditions(audio, f0, blink, mouth_amplitude), noise.to(audio))

    def _halve(self, x: Tensor) -> Tensor:
        """[B, Tx, C] -> [B, Tx/2, C]."""
        return x[:, ::2] if self.config.downsample == "nearest" else (x[:, ::2] + x[:, 1::2]) / 2

    def _halve_pitch(self, f0: Tensor) -> Tensor:
        """[B, Tx] -> [B, Tx/2]; average: over the voiced ones of a pair."""
        if self.config.downsample == "nearest":
            return f0[:, ::2]
        pairs = rearrange(f0, "b (t two) -> b t two", two=2)
        return pairs.sum(-1) / (pairs > 0).sum(-1).clamp(min=1)


def _amplitude(value: Tensor | None, vector: Tensor, batch: int, frames: int) -> Tensor:
    """Amplitude [B, 1] (None = 0.4) times its vector [G], the same for all frames -> [B, G, T]."""
    if value is None:
        value = vector.new_full((batch, 1), DEFAULT_AMPLITUDE)
    return (value.to(vector) * vector)[:, :, None].expand(-1, -1, frames)
