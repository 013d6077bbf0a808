"""Optimisers of a task: which parameters are trained when, at which learning rate.

What has the rate 0 at a step is fixed at it: `enable_only` gives it no gradients, and `set_modes` puts its modules in
eval mode.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from tasks.engine.sharding import local_shard
from tasks.engine.task import OptimizerSpec

Rates = Mapping[str, float]  # name of a parameter group -> its learning rate at a step


def optimizer_of_pass(name: str) -> str:
    """The optimiser of an entry of `Task.order`: `generator` of `generator:source`."""
    return name.partition(":")[0]


def build_optimizer(spec: OptimizerSpec) -> Optimizer:
    """Adam, or AdamW if there is weight decay, with one group per parameter group."""
    groups = [{"params": list(group.parameters), "lr": group.rate(0, 0.0)} for group in spec.groups]
    kind = AdamW if spec.weight_decay else Adam
    return kind(groups, betas=spec.betas, eps=spec.epsilon, weight_decay=spec.weight_decay, fused=True)


def check_specs(specs: list[OptimizerSpec], order: Iterable[str]) -> None:
    """Refuse optimisers that share a name or a parameter, and passes of unknown optimisers.

    Raises:
        ValueError: naming it.
    """
    names = [spec.name for spec in specs]
    owner: dict[int, str] = {}
    for spec in specs:
        for group in spec.groups:
            for parameter in group.parameters:
                if id(parameter) in owner:
                    raise ValueError(f"a parameter is in {owner[id(parameter)]} and in {spec.name}/{group.name}")
                owner[id(parameter)] = f"{spec.name}/{group.name}"
    if len(set(names)) < len(names):
        raise ValueError(f"two optimisers have one name: {', '.join(names)}")
    unknown = {optimizer_of_pass(name) for name in order} - set(names)
    if unknown:
        raise ValueError(f"the order names the optimiser {unknown.pop()}; there are {', '.join(names)}")


def set_trainable(modules: Mapping[str, nn.Module], specs: list[OptimizerSpec]) -> dict[str, nn.Module]:
    """Put modules with parameters in an optimiser in train mode, the others in eval mode; returns the former.

    Parameters that are in no optimiser get no gradients.
    """
    trained_parameters = {id(p) for spec in specs for group in spec.groups for p in group.parameters}
    trained = {}
    for name, module in modules.items():
        for parameter in module.parameters():
            parameter.requires_grad_(id(parameter) in trained_parameters)
        if any(parameter.requires_grad for parameter in module.parameters()):
            trained[name] = module.train()
        else:
            module.eval()
    return trained


def set_rates(spec: OptimizerSpec, optimizer: Optimizer, step: int, progress: float) -> Rates:
    """Set each group's learning rate for `step`; group name -> rate."""
    rates: dict[str, float] = {}
    for group, settings in zip(spec.groups, optimizer.param_groups):
        rates[group.name] = settings["lr"] = float(group.rate(step, progress))
    return rates


def set_modes(modules: Mapping[str, nn.Module], specs: list[OptimizerSpec], rates: Mapping[str, Rates]) -> None:
    """Put the modules that are trained at a step in train mode and the others in eval mode.

    A module without a parameter whose rate is above 0 is fixed: no dropout, and the statistics of its batch norms stay.

    Args:
        modules: those that have parameters in an optimiser, by name.
        rates: of every optimiser at the step, by name.
    """
    learning = {
        id(p) for spec in specs for group in spec.groups if rates[spec.name][group.name] > 0 for p in group.parameters
    }
    for module in modules.values():
        trains = any(id(parameter) in learning for parameter in module.parameters())
        if module.training != trains:
            module.train(trains)


def enable_only(specs: list[OptimizerSpec], active: OptimizerSpec, rates: Rates) -> None:
    """Enable gradients for the groups of `active` whose rate is not 0, and for nothing else."""
    for spec in specs:
        for group in spec.groups:
            enabled = spec is active and rates[group.name] > 0
            for parameter in group.parameters:
                parameter.requires_grad_(enabled)


def clip_gradients(gradients: list[Tensor], norm: Tensor, limit: float) -> None:
    """Scale gradients, whose norm together is `norm`, so that it is at most `limit`; 0: leave them."""
    if limit and float(norm) > limit:
        torch._foreach_mul_([local_shard(gradient) for gradient in gradients], limit / float(norm))
