"""Learning rates of all stages: the schedule over steps or progress, and the steps at which a module is trained.

The paper's numbers are in configs/*.yaml, beside their sources in tests/test_recipe.py and tests/test_recipe_steps.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tasks.engine.task import Rate, constant

LAZY_R1 = 16 / 17  # factor of rate and betas of a discriminator whose R1 penalty comes every 16 steps
LOWEST_WARM_UP = 1e-7  # least rate in the warm-up of the schedules step and exponential
Schedule = Literal["step", "exponential", "linear", "cosine"]
# Name of a module, step -> the share of its rate at that step; None: the module is fixed.
Share = Callable[[str, int], float | None]


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Learning rate of a network: the key `learning_rates` of the speech stages.

    After a warm-up the rate decays: `step` by the factor `decay` every `decay_interval` steps, `exponential` as much
    but smoothly, both down to `floor`; `linear` and `cosine` to 0 as progress runs from 0 to 1.
    """

    schedule: Schedule = "step"  # how the rate decays after the warm-up
    generator: float = 1e-4  # full rate of the modules that have no rate of their own
    warmup: int = 0  # steps in which the rate rises to the full rate
    decay: float = 1.0  # factor of the rate in each interval, of the schedules step and exponential
    decay_interval: int = 1  # steps
    floor: float = 0.0  # least rate of these schedules
    beta1: float = 0.9  # Adam's first beta

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule is {self.schedule}; use {', '.join(get_args(Schedule))}")
        if self.warmup < 0 or self.decay_interval < 1 or not 0 < self.decay <= 1:
            raise ValueError(
                f"warmup {self.warmup} >= 0, decay_interval {self.decay_interval} >= 1, decay "
                f"{self.decay} in (0, 1] must hold"
            )
        if not 0 <= self.beta1 < 1 or self.floor < 0:
            raise ValueError(f"beta1 {self.beta1} in [0, 1), floor {self.floor} >= 0 must hold")

    def at(self, full: float, step: int, progress: float) -> float:
        """The rate of a group whose full rate is `full`, warm-up included."""
        if self.schedule in ("linear", "cosine"):
            return self.decayed(full * min((step + 1) / max(self.warmup, 1), 1.0), step, progress)
        risen = max(full * (step / self.warmup), LOWEST_WARM_UP) if step < self.warmup else full
        if self.schedule == "exponential" and step <= self.warmup:
            return risen  # neither decay nor floor yet
        return self.decayed(risen, step, progress)

    def decayed(self, rate: float, step: int, progress: float) -> float:
        """`rate` after its decay, without a warm-up."""
        if self.schedule == "linear":
            return rate * (1 - progress)
        if self.schedule == "cosine":
            return rate * ((1 + math.cos(math.pi * progress)) / 2)
        periods = step // self.decay_interval if self.schedule == "step" else step / self.decay_interval
        return max(self.floor, rate * self.decay**periods)


@dataclass(frozen=True, kw_only=True)
class ImageLearningRates(LearningRates):
    """Learning rates of several modules: the key `learning_rates` of the image stages.

    The discriminator has no warm-up.
    """

    discriminator: float = 2e-4  # full rate of the discriminator
    constant_discriminator: bool = False  # the discriminator's rate does not decay
    image_to_plane: float | None = None  # None: as generator; 0: fixed
    renderer: float | None = None  # of the renderer's decoder; None: as generator
    beta1: float = 0.0  # of the generator; the discriminator's is 0

    def of(self, group: str, share: Share) -> Rate:
        """The rate of module `group` over steps and progress, 0 while `share` fixes the module."""
        if group == "discriminator":
            own = self.discriminator * LAZY_R1
            return constant(own) if self.constant_discriminator else (lambda step, p: self.decayed(own, step, p))
        group = "image_to_plane" if group == "tri_grid" else group  # both make the canonical planes
        given = {"image_to_plane": self.image_to_plane, "renderer": self.renderer}.get(group)
        full = self.generator if given is None else given

        def rate(step: int, progress: float) -> float:
            part = share(group, step)
            return 0.0 if part is None or full == 0 else self.at(full * part, step, progress)

        return rate


@dataclass(frozen=True, kw_only=True)
class Unfreezing:
    """First steps at which modules are trained; 0: from the start."""

    renderer: int = 0  # step from which it is trained
    superresolution: int = 0  # likewise

    def share(self, group: str, step: int) -> float | None:
        """1, or None while the module is fixed."""
        return 1.0 if step >= getattr(self, group, 0) else None


@dataclass(frozen=True, kw_only=True)
class MotionAdapterUnfreezing(Unfreezing):
    """First steps at which the modules of stage 2 are trained; 0: from the start."""

    motion_adapter: int = 0  # step from which it is trained


def always(group: str, step: int) -> float | None:
    """A `Share` in which every module has its full rate at every step."""
    return 1.0


def motion_adapter_share(
    group: str, step: int, unfreeze: MotionAdapterUnfreezing, rise: int, freeze_at: int | None, alone_from: int | None
) -> float | None:
    """The `Share` of stage 2.

    Args:
        unfreeze: first steps of motion adapter, decoder and super-resolution.
        rise: steps in which the share of the image-to-plane network rises from 0 to 1, 0: none; the rate has its floor.
        freeze_at: step from which the image-to-plane network is fixed; None: never.
        alone_from: step from which super-resolution alone is trained; None: never.
    """
    if alone_from is not None and step >= alone_from and group != "superresolution":
        return None
    if group == "image_to_plane":
        return None if freeze_at is not None and step >= freeze_at else min(1.0, step / rise) if rise else 1.0
    return unfreeze.share(group, step)
