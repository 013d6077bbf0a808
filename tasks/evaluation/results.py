"""What is kept of each case and method: one file, whole or not at all, so that a run that was killed goes on."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modules.metrics.series import ClipSeries
from modules.system.config import to_dict
from modules.system.files import whole_file
from tasks.evaluation.settings import FREE_KEYS, EvaluationConfig


@dataclass(frozen=True)
class Result:
    """The figures of one method in one case.

    Attributes:
        origin: what made the frames.
        stamp: of the settings and files; a result with another one is made anew.
        figures: measure -> number; NaN where nothing could be measured.
        counts: frames of the clip; those made, compared, and without a face.
        error: why there are no figures, or why frames are missing; empty otherwise.
        curves: mouth opening and yaw (radians) of every frame, for the plots.
    """

    case: str
    method: str
    origin: str
    stamp: str
    figures: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""
    curves: dict[str, list[float]] = field(default_factory=dict)

    def save(self, output: Path, features: list[Tensor] | None = None) -> None:
        """Write it, whole or not at all, the features of FID before it; NaN becomes null."""
        path = result_path(output, self.method, self.case)
        if features:
            with whole_file(path.with_suffix(".npy")) as part, part.open("wb") as file:
                np.save(file, torch.stack(features).numpy())
        with whole_file(path) as part:
            part.write_text(json.dumps(without_nan(asdict(self))), encoding="utf-8")

    @classmethod
    def load(cls, output: Path, method: str, case: str) -> "Result | None":
        """A kept result; None if there is none that can be read."""
        try:
            result = cls(**json.loads(result_path(output, method, case).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return replace(result, figures={name: _number(value) for name, value in result.figures.items()})


def result_path(output: Path, method: str, case: str) -> Path:
    """The file of a method's case."""
    return output / "cases" / method / f"{case}.json"


def features_of(output: Path, method: str, case: str) -> np.ndarray | None:
    """The kept Inception features [N, 2048] of a method's case, if there are any."""
    path = result_path(output, method, case).with_suffix(".npy")
    return np.load(path, allow_pickle=False) if path.is_file() else None


def video_path(output: Path, method: str, case: str) -> Path:
    """The kept video of a method's case."""
    return output / "videos" / method / f"{case}.mp4"


def stamp_of(config: EvaluationConfig, facts: list[Any], files: list[Path]) -> str:
    """A short text that changes with the settings that matter, other facts, and the files (of folders: all in them)."""
    settings = {name: value for name, value in to_dict(config).items() if name not in FREE_KEYS}
    seen: list[Any] = [settings, facts]
    for path in files:
        for entry in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if entry.is_file():
                state = entry.stat()
                seen.append((entry.name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def without_nan(value: Any) -> Any:
    """Plain data with null for numbers that are not finite, as JSON has none."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def curves_of(series: ClipSeries) -> dict[str, list[float]]:
    """The curves that are plotted, rounded."""
    curves = {"mouth_opening": series.mouth_opening, "yaw": series.euler[:, 1]}
    return {name: [round(float(value), 4) for value in values] for name, values in curves.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
