"""Compare a tensor with the entries of a golden file: complete, strided (`key.4x4`), or summarised (`key.stats`)."""

import re

import numpy as np
import torch
from torch import Tensor

_STRIDES = re.compile(r"^(.*)\.(\d+(?:x\d+)+)$")


def relative_error(actual: Tensor | np.ndarray, expected: Tensor | np.ndarray, norm: str = "l2") -> float:
    """Norm of the difference over the norm of `expected`; norm "l2" or "max"."""
    a = torch.as_tensor(actual).detach().double().cpu()
    e = torch.as_tensor(expected).double()
    assert a.shape == e.shape, f"shape {tuple(a.shape)}, expected {tuple(e.shape)}"
    size = (lambda x: x.abs().max()) if norm == "max" else torch.linalg.vector_norm
    return float(size(a - e) / size(e).clamp(min=1e-12))


def strided(actual: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Every A-th, B-th ... element along the last axes, starting at 0."""
    index = (..., *[slice(None, None, s) for s in strides])
    return actual[index]


def keys_of(npz: dict[str, np.ndarray], key: str) -> list[str]:
    """The entries that hold `key`: itself, `key.AxB`, or `key.stats`."""
    found = [k for k in npz if k == key or k == f"{key}.stats" or
             ((m := _STRIDES.match(k)) is not None and m.group(1) == key)]
    assert found, f"no entry for {key}"
    return found


def check(actual: Tensor, npz: dict[str, np.ndarray], key: str, tolerance: float = 1e-4, norm: str = "l2") -> float:
    """Assert that `actual` (the full tensor) agrees with every entry of `key`; returns the largest relative error.

    `.stats` has three numbers (mean, std, max |.|) or four (mean, std, min, max), population std, and is compared
    relative to std + |mean|.
    """
    worst = 0.0
    for name in keys_of(npz, key):
        expected = npz[name]
        if name.endswith(".stats"):
            full = actual.detach().double().cpu()
            extremes = [full.abs().max()] if len(expected) == 3 else [full.min(), full.max()]
            stats = torch.stack([full.mean(), full.std(correction=0), *extremes])
            scale = abs(expected[1]) + abs(expected[0])
            error = float((stats - torch.as_tensor(expected).double()).abs().max() / scale)
        else:
            match = _STRIDES.match(name)
            part = actual if match is None else strided(actual, tuple(map(int, match.group(2).split("x"))))
            error = relative_error(part, expected, norm)
        assert error <= tolerance, f"{name}: relative error {error:.2e}, allowed {tolerance:.0e}"
        worst = max(worst, error)
    return worst
