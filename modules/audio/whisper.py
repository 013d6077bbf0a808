"""Speech features of the first layers of a Whisper encoder (Radford et al. 2022, arXiv:2212.04356), in blocks.

A network that has heard real speech hears phonemes where a mel spectrum hears a voice and a room. The first two layers
of tiny.en (4.1 million numbers) suffice for lips. scripts/convert_whisper.py takes them out of a published checkpoint.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.audio.features import MEL_BANDS, mel_basis
from modules.media.rates import HOP, SAMPLE_RATE
from modules.system.checkpoint import load_module, read_model_config

DEFAULT_WHISPER = "checkpoints/demo/whisper"
MEL_WINDOW, MEL_HOP = 400, 160  # samples of Whisper's mel spectrum
_AT_ONCE = 8  # blocks that pass through the network together: memory does not grow with the length of the speech
_HALF_FRAME = HOP // 2


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """Size of the encoder, and the blocks in which it hears. Frames are of 20 ms.

    A frame depends on its block, `before` frames before it and `after` frames after it, and on nothing else: speech may
    come in pieces, and the features of a block are known `after` frames after its end.
    """

    width: int = 384  # channels: 384 tiny, 512 base, 768 small, 1024 medium, 1280 large
    heads: int = 6
    layers: int = 2  # of the published encoder, the first ones
    block: int = 256
    before: int = 64
    after: int = 16

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.layers, self.block) < 1 or min(self.before, self.after) < 0:
            raise ValueError(
                f"width {self.width}, heads {self.heads}, layers {self.layers}, block {self.block} must be positive, "
                f"before {self.before} and after {self.after} not negative"
            )
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")

    @property
    def window(self) -> int:
        """Frames that pass through the network together."""
        return self.before + self.block + self.after


class WhisperFeatures(nn.Module):
    """The frozen first layers of a Whisper encoder, standardised channel by channel."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(MEL_BANDS, config.width, 3, padding=1), nn.Conv1d(config.width, config.width, 3, 2, padding=1)]
        )
        layers = (
            nn.TransformerEncoderLayer(  # "pre-norm", as Whisper's
                config.width, config.heads, 4 * config.width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.layers)
        )
        self.layers = nn.Sequential(*layers)
        self.register_buffer("positions", sinusoids(config.window, config.width), persistent=False)
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("deviation", torch.ones(config.width))
        self.eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Numbers of a frame."""
        return self.config.width

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz in [-1, 1] -> frames [ceil(N / 320), width], 50 a second.

        Frame i hears about the moment (i + 1/2) / 50 s. Before and after the sound there is silence.
        """
        frames, config = -(-len(waveform) // HOP), self.config
        if frames == 0:
            return self.mean.new_zeros(0, config.width)
        blocks = -(-frames // config.block)
        mel_frames = 2 * config.window
        before = config.before * HOP - _HALF_FRAME + MEL_WINDOW // 2
        length = (mel_frames - 1) * MEL_HOP + MEL_WINDOW  # samples of a window
        after = max(0, (blocks - 1) * config.block * HOP + length - before - len(waveform))
        padded = F.pad(waveform.to(self.mean), (before, after))
        windows = padded.unfold(0, length, config.block * HOP)[:blocks]  # [blocks, length]
        heard = self.mean.new_empty(blocks * config.block, config.width)
        for part, windowed in zip(heard.split(_AT_ONCE * config.block), windows.split(_AT_ONCE)):
            part.copy_(self._heard(windowed))
        return heard[:frames]

    def _heard(self, windows: Tensor) -> Tensor:
        """Samples of some windows [K, length] -> features of their blocks [K * block, width]."""
        heard = log_mel(windows)  # [K, 80, 2 * window]
        for convolution in self.convolutions:
            heard = F.gelu(convolution(heard))
        features = self.layers(heard.transpose(1, 2) + self.positions)  # [K, window, width]
        block = features[:, self.config.before : self.config.before + self.config.block]
        return ((block - self.mean) / self.deviation).flatten(0, 1)


def log_mel(windows: Tensor) -> Tensor:
    """Whisper's log-mel spectrum of each window by itself: [K, 160 (T - 1) + 400] samples -> [K, 80, T].

    The loudest band of a window is the reference, 80 dB below it everything is floor.
    """
    shape = torch.hann_window(MEL_WINDOW, dtype=windows.dtype, device=windows.device)
    power = torch.stft(windows, MEL_WINDOW, MEL_HOP, window=shape, center=False, return_complex=True).abs().square()
    mel = torch.log10((mel_basis(MEL_WINDOW, 0.0, SAMPLE_RATE / 2).to(power) @ power).clamp(min=1e-10))
    return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's table of positions [length, channels]: sines, then cosines, of periods from 2 pi to 20000 pi frames."""
    scale = torch.exp(-torch.log(torch.tensor(10_000.0)) / (channels // 2 - 1) * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * scale
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def load_whisper(folder: Path) -> WhisperFeatures:
    """Features of a folder of scripts/convert_whisper.py.

    Raises:
        UserError: it is not there, damaged, or of another network.
    """
    features = WhisperFeatures(read_model_config(folder, WhisperConfig))
    load_module(folder, "whisper", features)
    return features
