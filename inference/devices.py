"""The device on which frames are computed, and the precision of their networks."""

import time

import torch
import torch.nn.functional as F

from modules.system.errors import UserError

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
CLEARLY_FASTER = 1.3  # how many times bfloat16 must be, for what it loses


def choose_device(name: str) -> torch.device:
    """The device of that name: auto (CUDA if there is one), cpu, cuda, cuda:N or mps.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used here ({reason}); use auto or cpu") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name: float32, bf16, or auto, which takes bf16 where it is clearly faster.

    On CUDA that is so where the device has it; on a processor a convolution of the networks' kind is timed, since some
    have bfloat16 instructions and others imitate them.
    """
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    seconds = {dtype: _convolution_seconds(dtype) for dtype in PRECISIONS.values()}
    faster = seconds[torch.float32] > CLEARLY_FASTER * seconds[torch.bfloat16]
    return torch.bfloat16 if faster else torch.float32


@torch.inference_mode()
def _convolution_seconds(dtype: torch.dtype, rounds: int = 3) -> float:
    """The shortest of some rounds, after one that warms up."""
    x, weight = (torch.ones(*shape, dtype=dtype) for shape in ((1, 64, 64, 64), (64, 64, 3, 3)))
    x, weight = (values.contiguous(memory_format=torch.channels_last) for values in (x, weight))
    times = []
    for _ in range(rounds + 1):
        start = time.thread_time()
        F.conv2d(x, weight, padding=1)
        times.append(time.thread_time() - start)
    return min(times[1:])
