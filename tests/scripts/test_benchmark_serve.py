"""The measurement of the server, with the smallest checkpoint and seconds of everything."""

import json

import pytest

from scripts.benchmark_serve import main
from tests.inference.conftest import checkpoint  # noqa: F401 (a fixture)

pytest.importorskip("uvicorn", reason="pip install -c constraints.txt -r requirements-serve.txt")


def test_it_measures_and_draws(checkpoint, tmp_path, capsys):  # noqa: F811 (the fixture)
    numbers, plot = tmp_path / "serve.json", tmp_path / "memory.png"
    small = [
        "--times",
        "1",
        "--seconds",
        "1",
        "--uploads",
        "8",
        "--minutes",
        "0.4",
        "--plot",
        plot,
        "--output",
        numbers,
    ]
    assert main([str(argument) for argument in ("--checkpoint", checkpoint, *small)]) == 0
    result = json.loads(numbers.read_text())
    live, uploads = result["live"], result["uploads"]
    assert 0.3 < live["first_frame"] <= live["first_frame_most"] < 3 and live["frames_per_second"] > 1
    assert sum(uploads["answers"].values()) == 8 and uploads["answers"]["left"] == 2
    assert uploads["answers"]["413"] == 2 and uploads["memory_most"] >= uploads["memory_before"] > 100
    assert len(result["memory"]) == 5 and plot.stat().st_size > 1000
    assert "first frame: " in capsys.readouterr().out


def test_a_soak_counts_sessions_and_watches_what_the_server_holds(checkpoint, tmp_path, capsys):  # noqa: F811
    numbers, plot = tmp_path / "soak.json", tmp_path / "soak.png"
    wanted = ["--soak", 12, "--every", 4, "--plot", plot, "--output", numbers]
    assert main([str(argument) for argument in ("--checkpoint", checkpoint, *wanted)]) == 0
    result = json.loads(numbers.read_text())["soak"]
    assert result["sessions"] == 3 and result["failures"] == [] and 0 < result["cores"] < 2
    assert len(result["rows"]) >= 10 and result["rows"][-1][0] >= 11
    assert all(memory > 100 and files > 2 and threads >= 1 for _, memory, files, threads in result["rows"])
    assert plot.stat().st_size > 1000 and "3 sessions, 0 failed" in capsys.readouterr().out


def test_a_soak_that_is_too_short_is_refused(checkpoint, capsys):  # noqa: F811
    assert main(["--checkpoint", str(checkpoint), "--soak", "5"]) == 2
    assert "--soak 5 has no time for two sessions" in capsys.readouterr().err


def test_what_cannot_be_is_one_line(capsys):
    assert main(["--checkpoint", "gone"]) == 2
    assert capsys.readouterr().err.startswith("error: the server does not start")
