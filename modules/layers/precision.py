"""The floating-point type in which a module computes."""

import torch
from torch import nn


def parameter_dtype(module: nn.Module) -> torch.dtype:
    """The type of the module's parameters, in which it wants its inputs."""
    return next(module.parameters()).dtype
