"""The device on which frames are computed."""

import torch

from modules.system.errors import UserError


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
