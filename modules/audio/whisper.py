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
from modules.audio.pitch import Samples
from modules.media.rates import HOP, SAMPLE_RATE
from modules.system.assets import shipped
from modules.system.checkpoint import build_network, load_module, read_model_config

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

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz in [-1, 1] -> frames [ceil(N / 320), width], 50 a second.

        Frame i hears about the moment (i + 1/2) / 50 s. Before and after the sound there is silence.
        """
        return self.part(waveform, 0, -(-len(waveform) // HOP))

    @torch.no_grad()
    def part(self, waveform: Samples | Tensor, first: int, frames: int) -> Tensor:
        """`forward`'s frames `first` to `first + frames`, which may lie beyond the end of the sound: [frames, width].

        Args:
            waveform: [N] at 16 kHz; no more of it is read than these frames hear.
            first: a multiple of `config.block`.
        """
        config = self.config
        if first % config.block:
            raise ValueError(f"the first frame is {first}; it must be a multiple of {config.block}")
        blocks = -(-frames // config.block)
        if not blocks:
            return self.mean.new_empty(0, config.width)
        heard = self.mean.new_empty(blocks * config.block, config.width)
        for number, part in enumerate(heard.split(_AT_ONCE * config.block)):
            sound = self._cut(waveform, first + number * _AT_ONCE * config.block, len(part) // config.block)
            windows = self._heard(sound.unfold(0, self._window_samples, config.block * HOP))
            part.copy_(windows[:, config.before : config.before + config.block].flatten(0, 1))
        return heard[:frames]

    @torch.no_grad()
    def latest(self, waveform: Samples | Tensor, end: int) -> Tensor:
        """The `block + after` frames before frame `end`, of a sound that is still coming: [block + after, width].

        They are those of a window that ends here and not where `part` has it. The last `after` of them do not hear
        all that comes after them.
        """
        config = self.config
        sound = self._cut(waveform, end - config.after - config.block, 1)
        return self._heard(sound[None])[0, config.before :]

    @property
    def _window_samples(self) -> int:
        return (2 * self.config.window - 1) * MEL_HOP + MEL_WINDOW

    def _cut(self, waveform: Samples | Tensor, first: int, blocks: int) -> Tensor:
        """What the blocks from frame `first` on hear; silence before and after the sound."""
        start = (first - self.config.before) * HOP + _HALF_FRAME - MEL_WINDOW // 2
        end = start + (blocks - 1) * self.config.block * HOP + self._window_samples
        inside = torch.as_tensor(waveform[max(0, start) : max(0, end)]).to(self.mean)
        before = max(0, -start)
        return F.pad(inside, (before, end - start - before - len(inside)))

    def _heard(self, windows: Tensor) -> Tensor:
        """Samples of some windows [K, length] -> features [K, window, width]."""
        heard = log_mel(windows)  # [K, 80, 2 * window]
        for convolution in self.convolutions:
            heard = F.gelu(convolution(heard))
        features = self.layers(heard.transpose(1, 2) + self.positions)  # [K, window, width]
        return (features - self.mean) / self.deviation


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
    """Features of a folder of scripts/convert_whisper.py; one of this repository is found from any other.

    Raises:
        UserError: it is not there, damaged, or of another network.
    """
    folder = shipped(folder)
    settings = read_model_config(folder, WhisperConfig)
    features = build_network(folder, lambda: WhisperFeatures(settings))
    load_module(folder, "whisper", features)
    return features
