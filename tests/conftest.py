"""Shared fixtures: seeds, golden numbers, real media and models (each skips with its reason when absent)."""

import os
import signal
from pathlib import Path

import pytest
import torch

pytest.register_assert_rewrite("tests.golden")

ROOT = Path(__file__).resolve().parents[1]
# What the tests use and the repository does not hold: golden numbers ($GOLDEN_DIR), photos and clips ($REAL3D_MEDIA)
# and MediaPipe's models ($REAL3D_ASSETS). A variable that is not set means the folder golden, media or models of
# $REAL3D_SHARED, a path from the root of the repository. This is the one place that looks outside of it.
SHARED = (ROOT / os.environ.get("REAL3D_SHARED", "../shared")).resolve()
GOLDEN_ERROR = "golden error of "  # a property of tests: [largest relative error, its key]


def golden_folder() -> Path:
    """Where golden numbers are looked for (see `SHARED`)."""
    return Path(os.environ.get("GOLDEN_DIR", SHARED / "golden"))


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    folder = golden_folder()
    if not any(folder.glob("*.npz")):
        pytest.skip(f"no golden numbers in {folder}; set GOLDEN_DIR to a folder that holds *.npz")
    return folder


def pytest_configure() -> None:
    """Signals act as in a terminal also where the tests were started in the background, as do the commands in them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each golden file: how far our numbers are off at most, and where."""
    worst: dict[str, tuple[float, str]] = {}
    for report in (report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)):
        for name, value in report.user_properties:
            if name.startswith(GOLDEN_ERROR):
                file = name.removeprefix(GOLDEN_ERROR)
                worst[file] = max(worst.get(file, (0.0, "")), tuple(value))
    if worst:
        terminalreporter.section("golden files: largest relative error")
    for file, (error, key) in sorted(worst.items()):
        terminalreporter.write_line(f"{file:20} {error:.1e}  {key}")


def media_folder() -> Path:
    """Photos, clips and speech of real people; skips the test where there are none."""
    folder = Path(os.environ.get("REAL3D_MEDIA", SHARED / "media"))
    if not folder.is_dir():
        pytest.skip(f"no test media in {folder}; set REAL3D_MEDIA")
    return folder


@pytest.fixture(scope="session")
def media() -> Path:
    return media_folder()


@pytest.fixture
def assets(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of outside model files, set as $REAL3D_ASSETS for the test."""
    folder = Path(os.environ.get("REAL3D_ASSETS", SHARED / "models"))
    if not folder.is_dir():
        folder = ROOT / "checkpoints" / "assets"
    if not (folder / "face_landmarker.task").is_file():
        pytest.skip(f"no MediaPipe models in {folder}; set REAL3D_ASSETS")
    monkeypatch.setenv("REAL3D_ASSETS", str(folder))
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden-steps", action="store_true", help="record the training steps of tests/golden_steps"
    )
