"""Network pickles: a file written in the released format is read exactly, and nothing in a file is executed."""

import os
import pickle  # noqa: S403
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.eg3d.generator import EG3DGenerator
from modules.official.eg3d_snapshot import read_snapshot
from modules.official.names import load_official
from modules.portrait.discriminator import DualDiscriminator
from modules.system.errors import UserError
from tests.modules.official.snapshot_files import (
    CONFIG,
    Writer,
    attributes,
    discriminator_state,
    official_state,
    write,
)
from tests.tasks.tiny_images import ADVERSARY


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writer:
    return Writer(monkeypatch, f"import os; os.mkdir({str(tmp_path / 'executed')!r})")


@pytest.fixture
def teacher() -> EG3DGenerator:
    torch.manual_seed(0)
    return EG3DGenerator(CONFIG).eval()


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_written_generator_comes_back_bit_by_bit(
    writer: Writer, teacher: EG3DGenerator, tmp_path: Path, protocol: int
) -> None:
    state = official_state(teacher)
    path = write(tmp_path / "network.pkl", writer.tree(state, extra=attributes(writer)), protocol)
    snapshot = read_snapshot(path)
    assert snapshot.config == CONFIG
    assert set(snapshot.state) == set(state)
    rebuilt = snapshot.build().state_dict()
    for key, value in teacher.state_dict().items():
        assert torch.equal(rebuilt[key], value), key
    assert not (tmp_path / "executed").exists()


def test_the_discriminator_comes_with_the_generator(writer: Writer, teacher: EG3DGenerator, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs, own = (DualDiscriminator(ADVERSARY.discriminator) for _ in range(2))
    generator = writer.tree(official_state(teacher), extra=attributes(writer))
    path = write(tmp_path / "network.pkl", generator, discriminator=writer.tree(discriminator_state(theirs)))
    state = read_snapshot(path).discriminator
    assert state.keys() == discriminator_state(theirs).keys()
    load_official(own, state, "discriminator")
    for key, value in theirs.state_dict().items():
        assert torch.equal(own.state_dict()[key], value), key
    assert read_snapshot(write(tmp_path / "network.pkl", generator)).discriminator is None


def test_a_discriminator_is_read_as_safely_as_a_generator(
    writer: Writer, teacher: EG3DGenerator, tmp_path: Path
) -> None:
    generator = writer.tree(official_state(teacher), extra=attributes(writer))
    for discriminator, message in (
        (Attack(os.mkdir, str(tmp_path / "executed")), "mkdir"),
        ("text", "no module"),
        (writer.tree({}, extra={"_forward_hooks": {0: "call me"}}), "functions attached"),
    ):
        with pytest.raises(UserError, match=message):
            read_snapshot(write(tmp_path / "network.pkl", generator, discriminator=discriminator))
    assert not (tmp_path / "executed").exists()


class Attack:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_a_call_of_the_operating_system_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "network.pkl", Attack(os.mkdir, str(tmp_path / "executed")))
    with pytest.raises(UserError, match=re.escape(f"{os.mkdir.__module__}.mkdir")):
        read_snapshot(path)
    assert not (tmp_path / "executed").exists()


def test_code_inside_a_storage_is_refused(tmp_path: Path) -> None:
    inner = pickle.dumps(Attack(os.mkdir, str(tmp_path / "executed")))
    path = write(tmp_path / "network.pkl", Attack(torch.storage._load_from_bytes, inner))
    with pytest.raises(UserError, match="mkdir"):
        read_snapshot(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((9,), (1,), 0), ((4,), (3,), 0), ((8,), (1,), 1), ((9,), (0,), 0), ((2,), (-1,), 3)]
)
def test_a_tensor_that_leaves_its_storage_is_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    storage = torch.zeros(8).__reduce_ex__(2)[1][0]
    fake = Attack(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    with pytest.raises(UserError, match="tensor of"):
        read_snapshot(write(tmp_path / "network.pkl", fake))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_forward_hooks": {0: "call me"}}, "functions attached"),
        ({"c_dim": 0}, "25 of a camera"),
        ({"neural_rendering_resolution": None}, "cannot read"),
        ({"_parameters": {"weight": "text"}}, "no tensor"),
    ],
)
def test_unusual_generators_are_refused_with_a_reason(
    writer: Writer, teacher: EG3DGenerator, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    generator = writer.tree(official_state(teacher), extra=attributes(writer) | change)
    with pytest.raises(UserError, match=message):
        read_snapshot(write(tmp_path / "network.pkl", generator)).build()


def test_modules_that_contain_themselves_are_refused(writer: Writer, teacher: EG3DGenerator, tmp_path: Path) -> None:
    endless = writer.module("renderer", {"_modules": {}})
    endless._modules["again"] = endless
    generator = writer.module("", attributes(writer) | {"_modules": {"renderer": endless}})
    with pytest.raises(UserError, match="nested"):
        read_snapshot(write(tmp_path / "network.pkl", generator))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04K\x01.", b"\x80\x04]."])
def test_other_files_are_named_in_the_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"other\.pkl"):
        read_snapshot(path)
