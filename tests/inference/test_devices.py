import pytest
import torch

from inference.devices import PRECISIONS, choose_device, choose_precision
from modules.system.errors import UserError


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be used here"):
        choose_device("no-such-device")


def test_auto_is_always_there() -> None:
    assert choose_device("auto").type in ("cpu", "cuda") and choose_device("cpu") == torch.device("cpu")


def test_a_named_precision_is_that_one_and_auto_takes_bfloat16_where_it_is_faster(monkeypatch) -> None:
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == torch.float32 and choose_precision("bf16", cpu) == torch.bfloat16
    assert choose_precision("auto", cpu) in PRECISIONS.values()
    for seconds, expected in ((0.4, torch.bfloat16), (0.9, torch.float32), (2.0, torch.float32)):
        times = {torch.float32: 1.0, torch.bfloat16: seconds}
        monkeypatch.setattr("inference.devices._convolution_seconds", times.__getitem__)
        assert choose_precision("auto", cpu) == expected
