"""Shards in one process; several processes are in test_trainer.py."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tasks.engine.sharding import (
    full_tensor,
    is_sharded,
    load_full,
    load_full_optimizer,
    local_shard,
    process_mean,
    reshard,
    shard,
    shard_like,
    total_norm,
    unsharded,
)
from tests.tasks.toy import Gain


@pytest.fixture
def pair() -> Iterator[tuple[nn.Module, nn.Module]]:
    """A network, and the same one in shards."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1), Gain())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield plain, shard(deepcopy(plain), init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "other")))
    finally:
        dist.destroy_process_group()


def train(module: nn.Module) -> torch.optim.Optimizer:
    """Three steps that depend on nothing else."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1, fused=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()
    return optimizer


def test_a_mean_is_that_of_all_processes(pair: tuple[nn.Module, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor(1.0)
    assert process_mean(value) == 1
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.add_(3.0))  # of the other one
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert process_mean(value) == 2 and value == 1


def test_single_numbers_are_not_sharded(pair: tuple[nn.Module, nn.Module]) -> None:
    plain, cut = pair
    assert is_sharded(cut) and not is_sharded(plain)
    kinds = {name: isinstance(parameter, DTensor) for name, parameter in cut.named_parameters()}
    assert not kinds.pop("3.gain") and all(kinds.values())


def test_training_in_shards_gives_the_same_full_state(pair: tuple[nn.Module, nn.Module]) -> None:
    plain, cut = pair
    expected, sharded = ({"weights": m.state_dict(), "moments": train(m).state_dict()["state"]} for m in pair)
    gathered = full_tensor(sharded)
    assert not any(isinstance(value, DTensor) for value in gathered["weights"].values())
    torch.testing.assert_close(gathered, expected)
    norms = [total_norm([p.grad for p in module.parameters()]) for module in pair]
    torch.testing.assert_close(*norms)
    reshard(plain)  # nothing to free


def test_full_tensors_are_loaded_into_shards(pair: tuple[nn.Module, nn.Module]) -> None:
    plain, cut = pair
    optimizer, other = train(plain), torch.optim.Adam(cut.parameters())
    load_full(cut, plain.state_dict())
    load_full_optimizer(other, optimizer.state_dict())
    torch.testing.assert_close(full_tensor(cut.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(full_tensor(other.state_dict()["state"]), optimizer.state_dict()["state"])
    assert isinstance(other.state[cut[0].weight]["exp_avg"], DTensor)
    assert local_shard(shard_like(torch.ones(5, 3), cut[0].weight)).shape == (5, 3)
    with pytest.raises(ValueError):
        load_full_optimizer(torch.optim.Adam(cut[0].parameters()), optimizer.state_dict())


def test_weights_are_full_inside_the_with(pair: tuple[nn.Module, nn.Module]) -> None:
    plain, cut = pair
    x = torch.randn(4, 3)
    for module in pair:
        module.eval()
    with unsharded(cut), unsharded(plain), torch.no_grad():
        assert not isinstance(cut[0].weight, DTensor)
        torch.testing.assert_close(cut[2](cut[0](x)), plain[2](plain[0](x)))
    assert isinstance(cut[0].weight, DTensor)


def test_lists_and_tuples_stay_what_they_are() -> None:
    value = {"betas": (0.9, 0.99), "groups": [{"lr": 1.0}, {"params": [0, 1]}]}
    assert full_tensor(value) == value
