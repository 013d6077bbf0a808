"""Weights sharded over the processes (FSDP2), and the way between shards and full tensors.

A process keeps its shard of every weight, gradient, moment and average; the weights are unsharded while a step or an
evaluation needs them. Files hold full tensors, so checkpoints are the same from any number of processes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Replace the parameters of `module` by shards; single numbers, which cannot be cut, stay full tensors."""
    numbers = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    fully_shard(module, mesh=mesh["data_parallel"], ignored_params=numbers)  # in place
    return module


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was applied to it."""
    return isinstance(module, FSDPModule)


def reshard(module: nn.Module) -> None:
    """Free the full weights again, after a forward pass that no backward pass follows."""
    if isinstance(module, FSDPModule):
        module.reshard()


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """The parameters of `module` are full tensors inside the `with`. All processes must take part."""
    if isinstance(module, FSDPModule):
        module.unshard()
    try:
        yield
    finally:
        reshard(module)


def local_shard(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, in the same memory; the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(value: Any) -> Any:
    """The same mappings, lists and tuples with full tensors instead of shards, on the CPU of process 0.

    All processes must take part; the others get empty tensors, so that the memory of a machine holds one copy.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor().detach()
        return full.cpu() if dist.get_rank() == 0 else full.new_empty(0)
    if isinstance(value, Mapping):
        return {key: full_tensor(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(full_tensor(item) for item in value)
    return value


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor cut as `like` is; itself if `like` is not sharded or of another shape (an optimiser's counter)."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load_full(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`module.load_state_dict` of full tensors."""
    own = module.state_dict()
    module.load_state_dict({key: shard_like(value, own[key]) if key in own else value for key, value in state.items()})


def load_full_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """`optimizer.load_state_dict` of full tensors.

    Raises:
        ValueError: the state belongs to other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        i: {key: shard_like(value, parameters[i]) for key, value in values.items()}
        for i, values in state["state"].items()
        if i < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": moments})


def average_unsharded_gradients(parameters: list[nn.Parameter]) -> None:
    """Average over the processes the gradients of parameters that are not sharded; FSDP averages those of shards."""
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def process_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes; itself in a single one. All processes must take part."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Norm of all gradients together, shards of other processes included. All processes must take part."""
    shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    others = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    if not shards:
        return nn.utils.get_total_norm(others)
    square = nn.utils.get_total_norm(shards).square()
    dist.all_reduce(square)
    return (square + nn.utils.get_total_norm(others).to(square.device).square()).sqrt()
