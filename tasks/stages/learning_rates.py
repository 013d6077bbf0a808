"""Learning rates of all stages: the curve over the steps or over progress, and which module is trained when.

The paper's numbers are in configs/*.yaml, beside their sources in tests/test_recipe.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tasks.engine.task import Rate, constant

LAZY_R1 = 16 / 17      # a discriminator with R1 every 16 steps: rate and betas are adjusted by this
LOWEST_WARM_UP = 1e-7  # where the warm-up of step and exponential begins
Schedule = Literal["step", "exponential", "linear", "cosine"]
# Module, step -> the part of its rate that it has then; None: it is fixed.
Share = Callable[[str, int], float | None]


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Learning rate of a network, the key `learning_rates` of the stages for speech.

    After a warm-up the rate falls: `step` by the factor `decay` every `decay_interval` steps, `exponential` by the same
    as a smooth curve, both down to `floor`; `linear` and `cosine` to 0 as progress goes from 0 to 1.
    """

    schedule: Schedule = "step"
    generator: float = 1e-4        # the full rate, of whatever has none of its own
    warmup: int = 0                # steps in which the rate rises to the full one
    decay: float = 1.0
    decay_interval: int = 1        # steps
    floor: float = 0.0
    beta1: float = 0.9             # Adam's first beta

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule is {self.schedule}; use {', '.join(get_args(Schedule))}")
        if self.warmup < 0 or self.decay_interval < 1 or not 0 < self.decay <= 1:
            raise ValueError(f"warmup {self.warmup} >= 0, decay_interval {self.decay_interval} >= 1, decay "
                             f"{self.decay} in (0, 1] must hold")
        if not 0 <= self.beta1 < 1 or self.floor < 0:
            raise ValueError(f"beta1 {self.beta1} in [0, 1), floor {self.floor} >= 0 must hold")

    def at(self, full: float, step: int, progress: float) -> float:
        """The rate of a group whose full rate is `full`, warm-up included."""
        if self.schedule in ("linear", "cosine"):
            return self.decayed(full * min((step + 1) / max(self.warmup, 1), 1.0), step, progress)
        risen = max(full * (step / self.warmup), LOWEST_WARM_UP) if step < self.warmup else full
        if self.schedule == "exponential" and step <= self.warmup:
            return risen                                    # neither decay nor floor yet
        return self.decayed(risen, step, progress)

    def decayed(self, rate: float, step: int, progress: float) -> float:
        """`rate` after its fall, without a warm-up."""
        if self.schedule == "linear":
            return rate * (1 - progress)
        if self.schedule == "cosine":
            return rate * ((1 + math.cos(math.pi * progress)) / 2)
        periods = step // self.decay_interval if self.schedule == "step" else step / self.decay_interval
        return max(self.floor, rate * self.decay**periods)


@dataclass(frozen=True, kw_only=True)
class ImageLearningRates(LearningRates):
    """The key `learning_rates` of the image stages. The discriminator has no warm-up."""

    discriminator: float = 2e-4
    constant_discriminator: bool = False     # its rate does not fall
    image_to_plane: float | None = None      # None: as the generator; 0: fixed
    renderer: float | None = None            # of the decoder; None: as the generator
    beta1: float = 0.0                       # of the generator; the discriminator's is 0

    def of(self, group: str, share: Share) -> Rate:
        """The rate of a module."""
        if group == "discriminator":
            own = self.discriminator * LAZY_R1
            return constant(own) if self.constant_discriminator else (lambda step, p: self.decayed(own, step, p))
        group = "image_to_plane" if group == "tri_grid" else group       # they make the canonical planes together
        given = {"image_to_plane": self.image_to_plane, "renderer": self.renderer}.get(group)
        full = self.generator if given is None else given

        def rate(step: int, progress: float) -> float:
            part = share(group, step)
            return 0.0 if part is None or full == 0 else self.at(full * part, step, progress)

        return rate


@dataclass(frozen=True, kw_only=True)
class Unfreezing:
    """First steps at which modules are trained; 0: from the start."""

    renderer: int = 0
    superresolution: int = 0

    def share(self, group: str, step: int) -> float | None:
        """1, or None while the module is fixed."""
        return 1.0 if step >= getattr(self, group, 0) else None


@dataclass(frozen=True, kw_only=True)
class MotionAdapterUnfreezing(Unfreezing):
    """The same for stage 2."""

    motion_adapter: int = 0


def always(group: str, step: int) -> float | None:
    """Every module has its rate at every step."""
    return 1.0


def motion_adapter_share(group: str, step: int, unfreeze: MotionAdapterUnfreezing, rise: int, freeze_at: int | None,
                         alone_from: int | None) -> float | None:
    """The parts of stage 2 over the steps.

    Args:
        unfreeze: when motion adapter, decoder and super-resolution begin.
        rise: steps in which the rate of the image-to-plane network rises, 0: none; a floor of the rates holds.
        freeze_at: from here on the image-to-plane network is fixed; None: never.
        alone_from: from here on super-resolution alone is trained; None: never.
    """
    if alone_from is not None and step >= alone_from and group != "superresolution":
        return None
    if group == "image_to_plane":
        return None if freeze_at is not None and step >= freeze_at else min(1.0, step / rise) if rise else 1.0
    return unfreeze.share(group, step)
