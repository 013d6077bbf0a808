"""Devices, precision and processes of a run, from the command line and from torchrun's environment."""

import logging
import os
import warnings

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy

from modules.system.errors import UserError
from tasks.engine.sharding import shard
from tasks.engine.trainer_config import TrainerConfig


def launch_fabric(config: TrainerConfig, device: str = "auto") -> Fabric:
    """One process, or under torchrun one of many (nccl on CUDA, gloo on CPUs).

    Args:
        config: precision, strategy and threads are used.
        device: auto, cpu, cuda, or cuda:N for a single process.
    Raises:
        UserError: no such device.
    """
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {device}: PyTorch sees {torch.cuda.device_count()} CUDA devices; use --device cpu")
    if config.threads:
        torch.set_num_threads(config.threads)
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if chosen.type == "cuda" else "32-true"
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.fabric")
    world, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if "TORCHELASTIC_RUN_ID" not in os.environ or world == 1:
        devices = [chosen.index or 0] if chosen.type == "cuda" else 1
        fabric = Fabric(accelerator=chosen.type, devices=devices, precision=precision, plugins=[LightningEnvironment()])
    else:
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        strategy: DDPStrategy | ModelParallelStrategy
        if config.strategy == "fsdp":
            strategy = ModelParallelStrategy(
                shard, data_parallel_size=world, tensor_parallel_size=1, process_group_backend=backend
            )
        else:
            # Each pass uses other parameters, hence find_unused.
            strategy = DDPStrategy(find_unused_parameters=True, process_group_backend=backend)
        fabric = Fabric(
            accelerator=chosen.type,
            devices=local,
            num_nodes=world // local,
            strategy=strategy,
            precision=precision,
            plugins=[TorchElasticEnvironment()],
        )
    fabric.launch()
    return fabric
