"""What modules return, and what they are given, during a forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def watched(
    outputs: Mapping[str, nn.Module], inputs: Mapping[str, nn.Module] | None = None
) -> Iterator[dict[str, Any]]:
    """{name: result} of `outputs` and {name: tuple of copied arguments} of `inputs`, filled while the context lasts."""
    seen: dict[str, Any] = {}

    def keep(name: str, value: Any) -> None:
        seen[name] = value

    def copies(arguments: tuple) -> tuple:
        return tuple(value.clone() if isinstance(value, Tensor) else value for value in arguments)

    hooks = [
        module.register_forward_hook(lambda _, __, result, name=name: keep(name, result))
        for name, module in outputs.items()
    ]
    hooks += [
        module.register_forward_pre_hook(lambda _, arguments, name=name: keep(name, copies(arguments)))
        for name, module in (inputs or {}).items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
