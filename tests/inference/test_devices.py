import pytest
import torch

from inference.devices import choose_device
from modules.system.errors import UserError


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be used here"):
        choose_device("no-such-device")


def test_auto_is_always_there() -> None:
    assert choose_device("auto").type in ("cpu", "cuda") and choose_device("cpu") == torch.device("cpu")
