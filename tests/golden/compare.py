"""How far numbers are from those of a golden file: complete, strided (`key.4x4`), or summarised (`key.stats`)."""

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

_ENDING = re.compile(r"\.(stats|\d+(x\d+)*)")


def relative_error(actual: Tensor | np.ndarray, expected: Tensor | np.ndarray, norm: str = "l2") -> float:
    """Norm of the difference over the norm of `expected`; norm "l2" or "max"."""
    a = torch.as_tensor(actual).detach().double().cpu()
    e = torch.as_tensor(expected).double()
    assert a.shape == e.shape, f"shape {tuple(a.shape)}, expected {tuple(e.shape)}"
    size = (lambda x: x.abs().max()) if norm == "max" else torch.linalg.vector_norm
    return float(size(a - e) / size(e).clamp(min=1e-12))


def strided(actual: Tensor, strides: str) -> Tensor:
    """Every A-th, B-th ... element along the last axes, starting at 0; strides "AxB..."."""
    return actual[(..., *[slice(None, None, int(step)) for step in strides.split("x")])]


def entries(names: Iterable[str], key: str) -> dict[str, str]:
    """The names that hold `key`: {name: "" (complete), "AxB..." (strided) or "stats"}."""
    endings = {name: name[len(key) :] for name in names if name.startswith(key)}
    found = {name: ending[1:] for name, ending in endings.items() if not ending or _ENDING.fullmatch(ending)}
    assert found, f"the golden file has no {key}"
    return found


def entry_error(actual: Tensor, ending: str, expected: np.ndarray, norm: str) -> float:
    """Relative error of the full tensor `actual` in an entry with this ending (see `entries`).

    "stats" has three numbers (mean, std, max |.|) or four (mean, std, min, max), population std; its error is relative
    to std + |mean|.
    """
    if ending != "stats":
        return relative_error(strided(actual, ending) if ending else actual, expected, norm)
    full = actual.detach().double().cpu()
    extremes = [full.abs().max()] if len(expected) == 3 else [full.min(), full.max()]
    stats = torch.stack([full.mean(), full.std(correction=0), *extremes])
    return float((stats - torch.from_numpy(expected)).abs().max() / (abs(expected[1]) + abs(expected[0])))
