"""The floating-point type in which a module computes, and what computes in full precision whatever autocast says."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


def parameter_dtype(module: nn.Module) -> torch.dtype:
    """The type of the module's parameters, in which it wants its inputs."""
    return next(module.parameters()).dtype


@contextmanager
def full_precision() -> Iterator[None]:
    """No autocast inside the `with` or, as `@full_precision()`, inside a function.

    All geometry is computed so: cameras, rays, vertices, landmarks, PNCC. bfloat16 has 8 bits, so one product of
    matrices in it moves a face by pixels.
    """
    with ExitStack() as off:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                off.enter_context(torch.autocast(device, enabled=False))
        yield
