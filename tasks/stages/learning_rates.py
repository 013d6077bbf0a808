"""Learning rates of the image stages as functions of the step (spec/training.md, 1.2 to 1.4) or of progress."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tasks.engine.task import Rate

LAZY_R1 = 16 / 17      # a discriminator with R1 every 16 steps: rate and betas are adjusted by this (1.1)


@dataclass(frozen=True, kw_only=True)
class RateConfig:
    """Learning rates of a stage.

    `kind` official: warm-up, then decay by steps, as the original; linear or cosine: from the full rate to 0 as
    progress goes from 0 to 1, after a warm-up of `warmup` steps.
    """

    generator: float = 1e-4
    discriminator: float = 2e-4
    i2p: float = 1e-4              # of the image-to-plane network in stages 1 (not official) and 2; 0: fixed
    renderer: float | None = None  # of the decoder (not official); None: as the generator
    warmup: int = 4000
    decay: float = 0.95
    decay_interval: int = 5000
    floor: float = 1e-5
    momentum: float = 0.0          # Adam's first beta for the generator
    kind: str = "official"

    def __post_init__(self) -> None:
        if self.kind not in ("official", "linear", "cosine"):
            raise ValueError(f"rates.kind is {self.kind}; use official, linear or cosine")
        if self.warmup < 0 or self.decay_interval < 1 or not 0 < self.decay <= 1:
            raise ValueError(f"rates: warmup {self.warmup} >= 0, decay_interval {self.decay_interval} >= 1, "
                             f"decay {self.decay} in (0, 1] must hold")

    def warm(self, step: int) -> float:
        """Generator rate during and after the warm-up, at least 1e-7."""
        return max(self.generator * min(step / max(self.warmup, 1), 1.0), 1e-7)

    def decayed(self, step: int) -> float:
        """Factor of the decay."""
        return self.decay ** (step // self.decay_interval)

    def progressive(self, rate: float, step: int, progress: float) -> float:
        """`rate` times the warm-up times a curve that falls to 0 at progress 1."""
        fall = 1 - progress if self.kind == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return rate * min((step + 1) / max(self.warmup, 1), 1.0) * fall

    def of(self, group: str, official: Callable[[int], dict[str, float]]) -> Rate:
        """The rate of a parameter group: `official(step)[group]`, or the group's full rate times the curve."""
        group = "image_to_plane" if group == "tri_grid" else group       # they make the canonical planes together
        if self.kind == "official":
            return lambda step, progress: official(step)[group]
        renderer = self.generator if self.renderer is None else self.renderer
        full = {"image_to_plane": self.i2p, "renderer": renderer,
                "discriminator": self.discriminator * LAZY_R1}.get(group, self.generator)
        return lambda step, progress: self.progressive(full, step, progress)


def i2p_rates(rates: RateConfig, step: int, start_adversarial: int) -> dict[str, float]:
    """Stage 1: backbone, decoder, super-resolution, discriminator (1.2)."""
    common = max(rates.floor, rates.warm(step) * rates.decayed(step))
    return {
        "image_to_plane": common,
        "renderer": common if step >= min(2000, start_adversarial) else 0.0,
        "superresolution": common if step >= start_adversarial else 0.0,
        "discriminator": rates.discriminator * LAZY_R1,
    }


def motion_adapter_rates(rates: RateConfig, step: int, start_adversarial: int, stop_i2p: int) -> dict[str, float]:
    """Stage 2 (1.3): the image-to-plane network rises slowly and is fixed from `stop_i2p` on."""
    common = max(rates.floor, rates.warm(step) * rates.decayed(step))
    rise = min(1.0, step / (start_adversarial + 20_000)) * rates.i2p / rates.generator if step > 6000 else 0.0
    i2p = max(rates.floor, rise * rates.warm(step) * rates.decayed(step))
    return {
        "image_to_plane": i2p if step < stop_i2p and rates.i2p > 0 else 0.0,
        "motion_adapter": common if step > 0 else 0.0,
        "renderer": common if step > 6000 else 0.0,
        "superresolution": common if step > 30_000 else 0.0,
        "discriminator": max(rates.floor, rates.discriminator * LAZY_R1 * rates.decayed(step)),
    }


def htbsr_rates(rates: RateConfig, step: int) -> dict[str, float]:
    """Stage 3 (1.4)."""
    return {
        "htbsr": max(rates.floor, rates.warm(step) * rates.decayed(step)),
        "discriminator": max(rates.floor, rates.discriminator * LAZY_R1 * rates.decayed(step)),
    }
