"""Exponential moving averages of weights (EMA)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages of the parameters of several modules; buffers are not averaged, the current ones are used.

    The decay at step s is min(decay, (1 + s) / (10 + s)), so that the first averages are not those of the start.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = dict(modules), decay
        self._names = [(name, key) for name, module in modules.items() for key, _ in module.named_parameters()]
        self._current = [p for module in modules.values() for p in module.parameters()]
        self._average = [p.detach().clone() for p in self._current]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._current], 1 - decay)

    def state(self, name: str) -> dict[str, Tensor]:
        """State dict of module `name` with the averages in the place of its parameters."""
        state = self.modules[name].state_dict()
        averages = {key: a for (owner, key), a in zip(self._names, self._average) if owner == name}
        return {key: averages.get(key, value) for key, value in state.items()}

    @torch.no_grad()
    def load(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set the averages from what `state` gave."""
        for (name, key), average in zip(self._names, self._average):
            average.copy_(states[name][key])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The modules hold the averages inside the `with`, and their own weights again after it."""
        with torch.no_grad():
            kept = [p.detach().clone() for p in self._current]
            torch._foreach_copy_(self._current, self._average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._current, kept)
