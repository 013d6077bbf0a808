"""A golden file: its arrays, inputs and weights; which keys were read; how far off ours were. And what a check is.

A check is a function that takes the Golden of one file and fails if our numbers differ. `checks` says of which files.
"""

import importlib.util
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import SHARED
from tests.golden.compare import entries, entry_error

Made = TypeVar("Made")
FILTER_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
ENDING = r"(?:\.(?:stats|\d+(?:x\d+)+))?"  # of a key that is not complete
BUFFERS = {"resample_filter": torch.outer(FILTER_TAPS, FILTER_TAPS), "num_batches_tracked": torch.tensor(1)}


class Arrays(dict[str, np.ndarray]):
    """{key: array}, with the keys that were asked for in `read`."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            super().__init__({key: arrays[key] for key in arrays.files})
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        self.read.add(key)
        return super().__getitem__(key)


class Golden:
    """One golden file of a folder.

    Attributes:
        npz: its arrays.
        worst: largest relative error so far, and its key.
        passed: checks that passed.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.npz = Arrays(folder / f"{name}.npz")
        self.salt = str(self.npz["salt"]) if "salt" in self.npz else ""
        self.worst = (0.0, "")
        self.passed: set[Callable[[Golden], None]] = set()
        self._made: dict[Callable[[Golden], object], object] = {}

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.npz[key]))

    def names(self, pattern: str) -> list:
        """The groups of `pattern` in the keys that it matches, endings aside, each once: strings or tuples."""
        found = filter(None, (re.fullmatch(rf"(?:{pattern}){ENDING}", key) for key in self.npz))
        return list(dict.fromkeys(match.groups() if len(match.groups()) > 1 else match[1] for match in found))

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of the stored part of `key`; axes without stride are complete."""
        name = next(name for name, ending in entries(self.npz, key).items() if ending != "stats")
        return self.npz.get(name).shape

    def input(
        self, name: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, prefix: str = "input:"
    ) -> Tensor:
        """The input tensor called `name`: mean + std * N(0, 1), the same for everybody."""
        array = _fill(self.folder).tensor(prefix + name, shape, "normal", mean, std, salt=self.salt)
        return torch.from_numpy(np.asarray(array))

    def constant(
        self, name: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, dtype: str = "float32"
    ) -> Tensor:
        """A weight or table called `name` (no prefix, no salt)."""
        array = _fill(self.folder).tensor(name, shape, "normal", mean, std, dtype)
        return torch.from_numpy(np.asarray(array))

    def rows(self, manifest: str | None = None) -> dict[str, dict]:
        """{official name: row} of a manifest (default: this file's)."""
        path = _part(self.folder, f"{manifest or self.name}.manifest.json")
        return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["tensors"]}

    def weights(self, manifest: str | None = None) -> dict[str, Tensor]:
        """{official name: tensor} of a manifest, complete: with blur kernels and counters as official files have."""
        state = _fill(self.folder).state_dict(_part(self.folder, f"{manifest or self.name}.manifest.json"))
        buffers = {
            name: BUFFERS[name.rpartition(".")[2]].clone()
            for name, row in self.rows(manifest).items()
            if row["fill"] == "buffer"
        }
        return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()} | buffers

    def once(self, make: Callable[["Golden"], Made]) -> Made:
        """make(self), made the first time that it is asked for."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def sibling(self, name: str) -> "Golden":
        """Another file of the same folder."""
        return open_golden(self.folder, name)

    def check(self, actual: Tensor | np.ndarray | float, key: str, tolerance: float, norm: str = "max") -> None:
        """The full tensor `actual` must agree with every entry of `key`: complete, strided, summarised."""
        for name, ending in entries(self.npz, key).items():
            self.note(name, entry_error(torch.as_tensor(actual), ending, self.npz[name], norm), tolerance)

    def equal(self, actual: Tensor | np.ndarray | list | int, key: str) -> None:
        """Integers or booleans must be the same."""
        np.testing.assert_array_equal(np.asarray(actual), self.npz[key], err_msg=key)

    def close(self, actual: Tensor | np.ndarray, key: str, absolute: float) -> None:
        """No element of `actual` may be off by more than `absolute`."""
        a, e = torch.as_tensor(actual).double(), self[key].double()
        assert a.shape == e.shape, f"{key}: shape {tuple(a.shape)}, expected {tuple(e.shape)}"
        size = max(float(e.abs().max()), 1e-12)
        self.note(key, float((a - e).abs().max()) / size, absolute / size)

    def note(self, key: str, error: float, tolerance: float) -> None:
        """A relative error found at `key`."""
        self.worst = max(self.worst, (error, key))
        assert error <= tolerance, f"{self.name}: {key} is off by {error:.2e}; {tolerance:.0e} is allowed"


def open_golden(folder: Path, name: str) -> Golden:
    """The file of that name; the test is skipped if there is none."""
    if not (folder / f"{name}.npz").is_file():
        pytest.skip(f"no {name}.npz in {folder}; set GOLDEN_DIR to a folder that has it")
    return Golden(folder, name)


Check = Callable[[Golden], None]


def checks(*files: str, slow: bool = False) -> Callable[[Check], Check]:
    """Declares a function a check of these files."""

    def declare(function: Check) -> Check:
        function.files, function.slow = files, slow
        return function

    return declare


def _part(folder: Path, name: str) -> Path:
    """A file that belongs to all golden folders: that of this one, or else of the shared one."""
    return folder / name if (folder / name).is_file() else SHARED / "golden" / name


@cache
def _fill(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", _part(folder, "fill.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
