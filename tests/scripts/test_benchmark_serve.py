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


def test_what_cannot_be_is_one_line(capsys):
    assert main(["--checkpoint", "gone"]) == 2
    assert capsys.readouterr().err.startswith("error: the server does not start")
