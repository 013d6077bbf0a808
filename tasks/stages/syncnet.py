"""The lip-sync expert: pairs of landmarks and speech that belong together, or do not.

See docs/spec/training.md#1-6 and #4-5.

    python -m tasks.run configs/syncnet.yaml      (or configs/demo/syncnet.yaml)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.audio.features import FeatureKind
from modules.audio.keypoints import Keypoints
from modules.audio.syncnet import AUDIO_WINDOW, WINDOW, SyncNet, SyncNetConfig
from modules.face_models import check_face_model
from modules.metrics.sync import sync_accuracy
from tasks.data.speech_clips import Sample, SpeechDataConfig
from tasks.engine.registry import register
from tasks.engine.seeds import seeded
from tasks.engine.task import StepState
from tasks.stages.learning_rates import LearningRates
from tasks.stages.speech_stage import SpeechTask

SHARES = (0.4, 0.3, 0.2, 0.1)        # in sync, small shift, large shift, other clip
SHIFTS = ((0, 0), (2, 5), (5, 10), (-10, 10))


@dataclass(frozen=True, kw_only=True)
class SyncNetTaskConfig:
    """The task's keys."""

    model: SyncNetConfig = field(default_factory=SyncNetConfig)
    features: FeatureKind = "hubert"
    face_model: str = "bfm"              # of modules/face_models.py
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    pairs: int = 8192                    # a step
    learning_rates: LearningRates = field(default_factory=LearningRates)

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        if self.pairs < 10:
            raise ValueError(f"pairs is {self.pairs}; it must be at least 10")


@dataclass(frozen=True)
class SyncPairs:
    """N pairs: landmarks of clip `mouth` from frame `start`, audio of clip `audio` from frame `start + shift`; all [N].

    `label` is 1 where both belong together.
    """

    mouth: Tensor
    audio: Tensor
    start: Tensor
    shift: Tensor
    label: Tensor


def sample_pairs(lengths: Tensor, count: int, generator: torch.Generator) -> SyncPairs:
    """Draw pairs in the official proportions, each on its own; a shift of +-1 frame is never a negative.

    See docs/spec/training.md#4-5.

    Args:
        lengths: [B] real video frames of each clip, at least 25.
        count: N, about.
    """
    def uniform(low: Tensor, high: Tensor) -> Tensor:
        """Integers of low..high, both included."""
        return low + (torch.rand(low.shape, generator=generator) * (high - low + 1)).long().clamp(max=high - low)

    counts = [max(1, int(count * share)) for share in SHARES]
    kind = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    bounds = torch.tensor(SHIFTS)[kind]
    sign = 1 - 2 * torch.randint(2, kind.shape, generator=generator)
    shift = uniform(bounds[:, 0], bounds[:, 1]) * torch.where(kind == 3, 1, sign)
    mouth = torch.randint(len(lengths), kind.shape, generator=generator)
    step = torch.randint(1, max(len(lengths), 2), kind.shape, generator=generator)
    audio = torch.where(kind == 3, (mouth + step) % len(lengths), mouth)
    same = (kind == 3) & (audio == mouth)                            # one clip only: a large shift instead
    shift = torch.where(same, SHIFTS[2][1] * sign, shift)
    last = torch.minimum(lengths[mouth], lengths[audio]) - WINDOW
    start = uniform((-shift).clamp(min=0), last - shift.clamp(min=0))
    return SyncPairs(mouth, audio, start, shift, (kind == 0).float())


def cut(sequence: Tensor, clip: Tensor, start: Tensor, length: int) -> Tensor:
    """sequence [B, T, C], clip and start [N] -> windows [N, length, C]."""
    device = sequence.device
    index = start.to(device)[:, None] + torch.arange(length, device=device)
    return sequence[clip.to(device)[:, None], index]


@register("syncnet")
class SyncNetTask(SpeechTask):
    """Modules: syncnet."""

    config_class = SyncNetTaskConfig
    config: SyncNetTaskConfig
    best_metric = "window_sync_accuracy"
    best_is_lowest = False

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
        cosine = sync(cut(batch["audio"], pairs.audio, 2 * (pairs.start + pairs.shift), AUDIO_WINDOW),
                      cut(points, pairs.mouth, pairs.start, WINDOW))
        return {"sync": sync.loss(cosine, pairs.label.to(cosine)).mean()}

    def validation_step(self, batch: Sample) -> Mapping[str, Tensor | float]:
        """Shares of clips and of single windows that sound more in sync than 5 frames early and late."""
        points = self.frozen["points"](batch["identity"], batch["expression"])
        clip, window = sync_accuracy(self.modules["syncnet"], batch["audio"], points, batch["mask"])
        return {"clip_sync_accuracy": clip, "window_sync_accuracy": window}
