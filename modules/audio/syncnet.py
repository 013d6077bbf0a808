"""Lip-sync expert: do 5 frames of landmarks and 10 frames of audio features belong together.

See docs/spec/audio2motion.md#5.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.losses.speech import binary_cross_entropy

WINDOW = 5  # video frames of a pair
AUDIO_WINDOW = 2 * WINDOW
KEYPOINT_SIZES = {"lm468": 1404, "lm68": 204, "lip": 60}


@dataclass(frozen=True, kw_only=True)
class SyncNetConfig:
    """Sizes and score; the defaults are the released network's (docs/spec/audio2motion.md#5-1)."""

    audio_size: int = 1024
    keypoints: Literal["lm468", "lm68", "lip"] = "lm468"
    base: int = 128  # b, width of the first block
    mouth_base: int = 96  # width of the first landmark layer
    layers_per_block: int = 3
    embedding: int = 1024
    score: Literal["cosine", "logit"] = "cosine"
    # cosine: embeddings end in a ReLU, the cosine in [0, 1] is the probability (official);
    # logit: signed embeddings, probability = sigmoid(scale cosine + bias) with two learnt numbers

    def __post_init__(self) -> None:
        if self.keypoints not in KEYPOINT_SIZES:
            raise ValueError(f"keypoints is {self.keypoints!r}; choose one of {', '.join(KEYPOINT_SIZES)}")
        if self.score not in ("cosine", "logit"):
            raise ValueError(f"score is {self.score!r}; choose cosine or logit")
        if self.layers_per_block < 1:
            raise ValueError(f"layers_per_block is {self.layers_per_block}; it must be at least 1")

    @classmethod
    def full(cls) -> "SyncNetConfig":
        """The released network: 10 746 144 parameters."""
        return cls()

    @classmethod
    def demo(cls) -> "SyncNetConfig":
        """A small network on Whisper features and lip landmarks."""
        return cls(
            audio_size=384, keypoints="lip", base=48, mouth_base=48, layers_per_block=2, embedding=128, score="logit"
        )


class SyncLayer(nn.Module):
    """Convolution, batch norm, (+ input), ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv1d(inputs, outputs, kernel, stride, padding), nn.BatchNorm1d(outputs))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, T] -> [B, C', T']."""
        y = self.conv_block(x)
        return F.relu(y + x if self.residual else y)


def _encoder(inputs: int, first: int, config: SyncNetConfig, last_stride: int) -> nn.Sequential:
    """10 audio frames (last_stride 2) or 5 landmark frames (last_stride 1) -> 1.

    The table of docs/spec/audio2motion.md#5-1.
    """
    b, repeats = config.base, config.layers_per_block - 1
    layers: list[nn.Module] = [SyncLayer(inputs, first, 3), SyncLayer(first, b, 3)]
    layers += [SyncLayer(b, b, 3, residual=True) for _ in range(repeats)]
    layers += [SyncLayer(b, 2 * b, 3, stride=2)]
    layers += [SyncLayer(2 * b, 2 * b, 3, residual=True) for _ in range(repeats)]
    layers += [SyncLayer(2 * b, 4 * b, 3, stride=last_stride)]
    layers += [SyncLayer(4 * b, 4 * b, 3, residual=True) for _ in range(repeats)]
    layers += [SyncLayer(4 * b, 4 * b, 3), SyncLayer(4 * b, 4 * b, 3, padding=0), SyncLayer(4 * b, 4 * b, 1, padding=0)]
    if config.score == "cosine":
        layers += [SyncLayer(4 * b, config.embedding, 1, padding=0)]
    else:
        layers += [nn.Conv1d(4 * b, config.embedding, 1)]
    return nn.Sequential(*layers)


class SyncNet(nn.Module):
    """Two encoders whose unit embeddings agree when lips and speech are in time."""

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.hubert_encoder = _encoder(config.audio_size, config.base, config, last_stride=2)
        self.mouth_encoder = _encoder(KEYPOINT_SIZES[config.keypoints], config.mouth_base, config, last_stride=1)
        if config.score == "logit":
            self.logit_scale = nn.Parameter(torch.tensor(8.0))
            self.logit_bias = nn.Parameter(torch.tensor(-2.0))

    def embed_audio(self, audio: Tensor) -> Tensor:
        """Features [B, 10, A] at 50 Hz -> unit vectors [B, D]."""
        return F.normalize(self.hubert_encoder(rearrange(audio, "b t a -> b a t")).flatten(1), dim=-1)

    def embed_mouth(self, landmarks: Tensor) -> Tensor:
        """Landmarks [B, 5, P] at 25 Hz, displacements in 0.1 dm, point-major xyz -> unit vectors [B, D]."""
        return F.normalize(self.mouth_encoder(rearrange(landmarks, "b t p -> b p t")).flatten(1), dim=-1)

    def forward(self, audio: Tensor, landmarks: Tensor) -> Tensor:
        """audio [B, 10, A], landmarks [B, 5, P] -> cosine [B] in [-1, 1]: the confidence that they belong together."""
        return F.cosine_similarity(self.embed_audio(audio), self.embed_mouth(landmarks), dim=-1)

    def loss(self, cosine: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each pair: cosine [B], labels [B] (1 = in sync) -> [B]."""
        if self.config.score == "cosine":
            return binary_cross_entropy(cosine, labels)
        logits = self.logit_scale * cosine + self.logit_bias
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="none")


def windows(sequence: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut the same time windows out of every sample, window-major.

    Args:
        sequence: [B, T, C].
        starts: [N] int64, first frames.
        length: frames of a window.
    Returns:
        [N * B, length, C].
    """
    index = starts[:, None] + torch.arange(length, device=starts.device)  # [N, length]
    return rearrange(sequence[:, index], "b n t c -> (n b) t c")
