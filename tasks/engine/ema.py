"""Exponential moving averages of weights (EMA)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tasks.engine.sharding import local_shard


class Ema:
    """Averages of the parameters of several modules; buffers are not averaged, the current ones are used.

    They begin as the weights that the modules hold. Of a sharded module each process averages its own shards.

    The decay at step s is min(decay, (1 + s) / (10 + s)), so that the first averages are not those of the start.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = dict(modules), decay
        self._names = [(name, key) for name, module in modules.items() for key, _ in module.named_parameters()]
        self._current = [p for module in modules.values() for p in module.parameters()]
        self._average = [p.detach().clone() for p in self._current]
        self._local_average = [local_shard(average) for average in self._average]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._local_average, self._local_current(), 1 - decay)

    def state(self, name: str) -> dict[str, Tensor]:
        """State dict of module `name` with the averages instead of its parameters."""
        state = self.modules[name].state_dict()
        averages = {key: a for (owner, key), a in zip(self._names, self._average) if owner == name}
        return {key: averages.get(key, value) for key, value in state.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The modules hold the averages inside the `with`, and their own weights again after it."""
        current = self._local_current()
        own = [p.clone() for p in current]
        torch._foreach_copy_(current, self._local_average)
        try:
            yield
        finally:
            torch._foreach_copy_(current, own)

    def _local_current(self) -> list[Tensor]:
        return [local_shard(p.detach()) for p in self._current]
