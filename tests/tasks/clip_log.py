"""A task that learns nothing of importance and writes down which samples each step of each process saw."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.clips.format import list_clips
from modules.clips.store import clip_folder
from tasks.data.frame_pairs import ClipDataConfig, FramePairs
from tasks.engine.registry import register
from tasks.engine.task import OptimizerSpec, ParameterGroup, StepState, Task, constant


@dataclass(frozen=True, kw_only=True)
class ClipLogConfig:
    data: ClipDataConfig = field(default_factory=ClipDataConfig)
    seen: str = ""  # file; one line a step of a process


class NamedPairs(Dataset):
    """Items of the pairs as numbers: the item's, the clip's, and a sum of its pixels and coefficients."""

    def __init__(self, config: ClipDataConfig) -> None:
        self.pairs = FramePairs(config, list_clips(clip_folder(config.folder, config.store)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        item = self.pairs[index]
        pixels = int(item["source_image"].sum() + 3 * item["target_image"].sum() + 5 * item["pncc"].sum())
        return torch.tensor([index, int(self.pairs.clip(index % len(self.pairs.clips)).clip.name[-1]), pixels])


@register("clip_log")
class ClipLog(Task):
    config_class = ClipLogConfig

    def __init__(self, config: ClipLogConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        self.generator = nn.Linear(1, 1)
        self.modules = {"generator": self.generator}

    def optimizers(self) -> list[OptimizerSpec]:
        group = ParameterGroup(name="all", parameters=list(self.generator.parameters()), rate=constant(1e-3))
        return [OptimizerSpec(name="generator", groups=[group])]

    def train_dataset(self) -> Dataset:
        return NamedPairs(self.config.data)

    def validation_dataset(self) -> None:
        return None

    def training_step(self, batch: Tensor, step: int, optimizer: str, state: StepState) -> Mapping[str, Tensor]:
        first = int(os.environ.get("RANK", 0)) * len(batch)
        line = f"{step} {first} {batch.tolist()}\n".encode()
        file = os.open(Path(self.config.seen), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line)
        os.close(file)
        return {"loss": self.generator(torch.ones(1, 1)).square().sum()}
