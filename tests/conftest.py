"""Shared fixtures: seeds, golden numbers, real media and models (each skips with its reason when absent)."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


class Golden:
    """One golden file: its arrays, its inputs and its deterministic weights."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.path = folder / f"{name}.npz"
        with np.load(self.path) as arrays:
            self.npz = {key: arrays[key] for key in arrays.files}
        self.salt = str(self.npz["salt"]) if "salt" in self.npz else ""
        self._fill = _load_fill(folder)

    def input(self, name: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0,
              prefix: str = "input:", dtype: str = "float32") -> Tensor:
        """The input tensor called `name`: mean + std * N(0, 1), the same for everybody."""
        array = self._fill.tensor(prefix + name, shape, "normal", mean, std, dtype, salt=self.salt)
        return torch.from_numpy(np.asarray(array))

    def constant(self, name: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0,
                 dtype: str = "float32") -> Tensor:
        """A weight or table called `name` (no prefix, no salt)."""
        return torch.from_numpy(np.asarray(self._fill.tensor(name, shape, "normal", mean, std, dtype)))

    def weights(self, manifest: str | None = None) -> dict[str, Tensor]:
        """{official name: tensor} of a manifest (default: this file's), buffers left out."""
        state = self._fill.state_dict(self.folder / f"{manifest or self.name}.manifest.json")
        return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def _load_fill(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_fill", folder / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    folder = Path(os.environ.get("GOLDEN_DIR", SHARED / "golden"))
    if not (folder / "fill.py").is_file():
        pytest.skip(f"no golden numbers in {folder}; set GOLDEN_DIR to a folder that holds fill.py and *.npz")
    return folder


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> Callable[[str], Golden]:
    """golden("renderer") -> Golden; skips when that file is missing."""
    def load(name: str) -> Golden:
        if not (golden_dir / f"{name}.npz").is_file():
            pytest.skip(f"{name}.npz is not in {golden_dir}")
        return Golden(golden_dir, name)
    return load


@pytest.fixture(scope="session")
def media() -> Path:
    folder = Path(os.environ.get("REAL3D_MEDIA", SHARED / "media"))
    if not folder.is_dir():
        pytest.skip(f"no test media in {folder}; set REAL3D_MEDIA")
    return folder


@pytest.fixture
def assets(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of outside model files, set as $REAL3D_ASSETS for the test."""
    folder = Path(os.environ.get("REAL3D_ASSETS", SHARED / "models"))
    if not (folder / "face_landmarker.task").is_file():
        pytest.skip(f"no MediaPipe models in {folder}; set REAL3D_ASSETS")
    monkeypatch.setenv("REAL3D_ASSETS", str(folder))
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
