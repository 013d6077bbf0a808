import json
from pathlib import Path

import pytest
import torch

from scripts.profile_training import main, shares, table
from tests.tasks.helpers import toy_config


def test_the_command_reports_where_the_time_of_a_step_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "new/profile.json"
    assert (
        main([str(toy_config(tmp_path)), "slow=0.02", "--steps", "12", "--device", "cpu", "--json", str(written)]) == 0
    )
    printed = capsys.readouterr().out
    profile = json.loads(written.read_text(encoding="utf-8"))
    assert table(profile) in printed and "| forward |" in printed
    assert sum(profile["shares"].values()) == pytest.approx(1)
    assert all(share > 0 for share in profile["shares"].values())
    assert max(profile["shares"], key=profile["shares"].get) == "forward"  # the toy sleeps there
    assert profile["seconds_per_step"] > 0.02 and profile["threads"] == torch.get_num_threads()
    assert profile["parameters"] == {"generator": 42, "discriminator": 49, "scale": 2}
    assert [path.name for path in tmp_path.iterdir() if path.name != "new"] == ["toy.yaml"]


def test_the_first_line_is_left_out_and_lines_count_by_their_time() -> None:
    lines = [
        {"step": 10, "speed/seconds_per_step": 9.0, "time/data": 1.0},
        {"step": 20, "speed/seconds_per_step": 1.0, "time/data": 0.5, "time/rest": 0.5},
        {"step": 40, "speed/seconds_per_step": 2.0, "time/data": 0.0, "time/forward": 1.0},
    ]
    seconds, parts = shares(lines)
    assert seconds == pytest.approx(50 / 30)
    assert {part: share for part, share in parts.items() if share} == pytest.approx(
        {"data": 0.1, "rest": 0.1, "forward": 0.8}
    )


def test_the_table_gives_milliseconds() -> None:
    profile = {
        "config": "a.yaml",
        "device": "cpu",
        "precision": "auto",
        "threads": 1,
        "batch": 4,
        "steps": 8,
        "seconds_per_step": 2.0,
        "peak_bytes": None,
        "parameters": {"net": 1_500_000, "none": 0},
        "shares": {"data": 0.1, "forward": 0.5, "backward": 0.25, "optimizer": 0.1, "rest": 0.05},
    }
    lines = table(profile).splitlines()
    assert "| trainer (overhead) | 100.0 | 5.0 % |" in lines and "| whole step | 2000.0 | 100 % |" in lines
    assert "parameters: net 1.50 M" in lines and "peak memory: unknown" in lines[2]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--steps", "1"], "use at least 2"),
        (["stpes=3"], "did you mean"),
        (["--device", "cuda:99"], "use --device cpu"),
    ],
)
def test_wrong_arguments_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main([str(toy_config(tmp_path)), *arguments]) == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]
