"""A task small enough to train in seconds: fit a line with a generator, against a discriminator."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tasks.engine.registry import register
from tasks.engine.task import OptimizerSpec, ParameterGroup, StepState, Task, constant, grid


@dataclass(frozen=True, kw_only=True)
class ToyModelConfig:
    width: int = 8

    @classmethod
    def demo(cls) -> "ToyModelConfig":
        return cls(width=4)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    model: ToyModelConfig = field(default_factory=ToyModelConfig)
    rate: float = 1e-2
    items: int = 50
    noise: float = 0.1  # drawn from the step's generator
    dropout: float = 0.2  # drawn from the global generator
    nan_at: int = -1  # a step whose loss is not a number
    slow: float = 0.0  # seconds that a step takes
    die_at: int = -1  # a step in which the process is killed
    freeze_until: int = 0  # the first layer has the rate 0 before
    bad_item: int = -1  # an item of the data that is not a number
    bad_validation: bool = False


class Gain(nn.Module):
    """One number as a parameter, which cannot be sharded."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Points(Dataset):
    def __init__(self, count: int, bad_item: int = -1) -> None:
        self.count, self.bad_item = count, bad_item

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.randn(3, generator=torch.Generator().manual_seed(index))
        x = x * torch.nan if index == self.bad_item else x
        return {"x": x, "y": x.sum(dim=0, keepdim=True), "index": torch.tensor(index)}


@register("toy")
class Toy(Task):
    config_class = ToyConfig

    def __init__(self, config: ToyConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        width = config.model.width
        self.generator = nn.Sequential(
            nn.Linear(3, width), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(width, 1), Gain()
        )
        self.discriminator = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))
        self.modules = {"generator": self.generator, "discriminator": self.discriminator, "scale": nn.Linear(1, 1)}
        for module in self.modules.values():
            for parameter in module.parameters():
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        self.seen: list[tuple[int, list[int]]] = []

    def optimizers(self) -> list[OptimizerSpec]:
        first, last = self.generator[0], self.generator[3:]
        wait = self.config.freeze_until
        return [
            OptimizerSpec(
                name="generator",
                groups=[
                    ParameterGroup(
                        name="first",
                        parameters=list(first.parameters()),
                        rate=lambda step, progress: self.config.rate if step >= wait else 0.0,
                    ),
                    ParameterGroup(
                        name="last",
                        parameters=list(last.parameters()),
                        rate=lambda step, progress: self.config.rate * (1 - progress),
                    ),
                ],
            ),
            OptimizerSpec(
                name="discriminator",
                every=2,
                start=2,
                groups=[
                    ParameterGroup(name="all", parameters=list(self.discriminator.parameters()), rate=constant(1e-3))
                ],
            ),
        ]

    def train_dataset(self) -> Dataset:
        return Points(self.config.items, self.config.bad_item)

    def validation_dataset(self) -> Dataset:
        return Points(7, 3 if self.config.bad_validation else -1)

    def training_step(
        self, batch: Mapping[str, Tensor], step: int, optimizer: str, state: StepState
    ) -> dict[str, Tensor]:
        if optimizer == "generator":
            self._incident(step)
            self.seen.append((step, batch["index"].tolist()))
            noise = self.config.noise * torch.randn(batch["x"].shape, generator=state.generator)
            prediction = self.generator(batch["x"] + noise.to(batch["x"]))
            state.cache["fake"] = prediction.detach()
            state.metrics["largest"] = prediction.detach().abs().max()
            score = self.discriminator(torch.cat([batch["x"], prediction], dim=1))
            losses = {
                "fit": (prediction - batch["y"]).square().mean(),
                **state.weigh("adversarial", 0.1, nn.functional.softplus(-score).mean()),
            }
            return losses | ({"broken": prediction.sum() * torch.nan} if step == self.config.nan_at else {})
        if step % 8 == 3:
            self.discriminator(torch.cat([batch["x"], batch["y"]], dim=1))
            return {}  # rests, although it ran
        pair = torch.cat([batch["x"], batch["y"]], dim=1).requires_grad_()
        real = self.discriminator(pair)
        fake = self.discriminator(torch.cat([batch["x"], state.cache["fake"]], dim=1))
        losses = {"discriminator": nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()}
        if step % 4 == 1:  # lazy R1: a gradient of a gradient
            (slope,) = torch.autograd.grad(real.sum(), pair, create_graph=True)
            losses["r1"] = slope.square().sum(dim=1).mean()
        return losses

    def validation_step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self.generator(batch["x"]) - batch["y"]).square().mean()}

    def pictures(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"points": grid([batch["x"].reshape(-1, 1, 1, 3)])}

    def videos(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"points": torch.arange(3 * 8 * 8 * 3, dtype=torch.uint8).reshape(3, 8, 8, 3)}

    def _incident(self, step: int) -> None:
        if self.config.slow:
            time.sleep(self.config.slow)
        if step == self.config.die_at:
            os.kill(os.getpid(), 9)
