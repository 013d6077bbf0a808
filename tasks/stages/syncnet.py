"""The lip-sync expert (SyncNet): it learns whether landmarks and speech belong together.

    python -m tasks.run configs/syncnet.yaml      (or configs/demo/syncnet.yaml)

See docs/spec/training.md#1-6 and #4-5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.audio.features import FeatureKind, check_audio_size
from modules.audio.keypoints import Keypoints
from modules.audio.syncnet import AUDIO_WINDOW, WINDOW, SyncNet, SyncNetConfig
from modules.face_models import check_face_model
from modules.metrics.sync import sync_accuracy
from tasks.data.speech_clips import Sample, SpeechDataConfig
from tasks.engine.registry import register
from tasks.engine.seeds import seeded
from tasks.engine.task import Metric, StepState
from tasks.stages.learning_rates import LearningRates
from tasks.stages.speech_stage import SpeechTask
from tasks.stages.warm_start import SPEECH_PART, SYNC_PART

SHARES = (0.4, 0.3, 0.2, 0.1)  # in sync, small shift, large shift, other clip
SHIFTS = ((0, 0), (2, 5), (5, 10), (-10, 10))


@dataclass(frozen=True, kw_only=True)
class SyncNetTaskConfig:
    """The keys of the lip-sync expert."""

    model: SyncNetConfig = field(default_factory=SyncNetConfig)
    features: FeatureKind = "hubert"  # of the sound
    face_model: str = "bfm"  # of modules/face_models.py
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    pairs: int = 8192  # pairs in a step
    learning_rates: LearningRates = field(default_factory=LearningRates)
    init_from: str = ""  # checkpoint or run to start from

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        check_audio_size(self.features, self.model.audio_size)
        if self.pairs < 10:
            raise ValueError(f"pairs is {self.pairs}; it must be at least 10")


@dataclass(frozen=True)
class SyncPairs:
    """N pairs of landmarks and audio, all fields [N].

    Attributes:
        mouth, start: clip and first video frame of the landmarks.
        audio, shift: clip of the audio, which begins at video frame `start + shift`.
        label: 1 where both belong together, else 0.
    """

    mouth: Tensor
    audio: Tensor
    start: Tensor
    shift: Tensor
    label: Tensor


def sample_pairs(lengths: Tensor, count: int, generator: torch.Generator) -> SyncPairs:
    """Draw pairs in the original's proportions (docs/spec/training.md#4-5); a shift of +-1 frame is never a negative.

    Args:
        lengths: [B], video frames of each clip without padding, at least 25.
        count: N; rounding changes it a little.
        generator: on the CPU.
    """

    def uniform(low: Tensor, high: Tensor) -> Tensor:
        """Random integers from low to high, both included."""
        return low + (torch.rand(low.shape, generator=generator) * (high - low + 1)).long().clamp(max=high - low)

    counts = [max(1, int(count * share)) for share in SHARES]
    kind = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    bounds = torch.tensor(SHIFTS)[kind]
    sign = 1 - 2 * torch.randint(2, kind.shape, generator=generator)
    shift = uniform(bounds[:, 0], bounds[:, 1]) * torch.where(kind == 3, 1, sign)
    mouth = torch.randint(len(lengths), kind.shape, generator=generator)
    step = torch.randint(1, max(len(lengths), 2), kind.shape, generator=generator)
    audio = torch.where(kind == 3, (mouth + step) % len(lengths), mouth)
    same = (kind == 3) & (audio == mouth)  # one clip only: a large shift instead
    shift = torch.where(same, SHIFTS[2][1] * sign, shift)
    last = torch.minimum(lengths[mouth], lengths[audio]) - WINDOW
    start = uniform((-shift).clamp(min=0), last - shift.clamp(min=0))
    return SyncPairs(mouth, audio, start, shift, (kind == 0).float())


def cut(sequence: Tensor, clip: Tensor, start: Tensor, length: int) -> Tensor:
    """Windows [N, length, C] of sequences [B, T, C]; clip and start, both [N], say which and from which frame."""
    device = sequence.device
    index = start.to(device)[:, None] + torch.arange(length, device=device)
    return sequence[clip.to(device)[:, None], index]


@register("syncnet")
class SyncNetTask(SpeechTask):
    """Train SyncNet on random pairs of landmarks and speech."""

    config_class = SyncNetTaskConfig
    config: SyncNetTaskConfig
    parts = (SYNC_PART, SPEECH_PART)
    logged = {"sync": "Cross-entropy of whether lips and speech belong together."}  # noqa: RUF012
    best_metric = "window_sync_accuracy"
    metrics = {  # noqa: RUF012
        "clip_sync_accuracy": Metric("share of clips that score higher in sync than 5 frames early or late", "higher"),
        "window_sync_accuracy": Metric("the same share of windows of 5 frames, against one of both", "higher"),
    }

    def __init__(self, config: SyncNetTaskConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.modules = {"syncnet": SyncNet(config.model)}
        self.frozen = {"points": Keypoints(self.face, config.model.keypoints)}

    def training_step(self, batch: Sample, step: int, optimizer: str, state: StepState) -> Mapping[str, Tensor]:
        """Cross-entropy of random pairs (docs/spec/training.md#2-11)."""
        sync: SyncNet = self.modules["syncnet"]
        points = self.frozen["points"](batch["identity"], batch["expression"])
        pairs = sample_pairs(batch["mask"].sum(dim=1).long().cpu(), self.config.pairs, state.generator)
        cosine = sync(
            cut(batch["audio"], pairs.audio, 2 * (pairs.start + pairs.shift), AUDIO_WINDOW),
            cut(points, pairs.mouth, pairs.start, WINDOW),
        )
        return state.weigh("sync", 1.0, sync.loss(cosine, pairs.label.to(cosine)).mean())

    def validation_step(self, batch: Sample) -> Mapping[str, Tensor | float]:
        """Shares of clips and of windows that score higher in sync than with the audio 5 frames early or late."""
        points = self.frozen["points"](batch["identity"], batch["expression"])
        clip, window = sync_accuracy(self.modules["syncnet"], batch["audio"], points, batch["mask"])
        return {"clip_sync_accuracy": clip, "window_sync_accuracy": window}
