import os
import signal
import sys
from pathlib import Path

import pytest

import scripts.fuzz as fuzz
from scripts.fuzz import Case, judge, main


@pytest.mark.parametrize(
    ("code", "said", "left", "verdict"),
    [
        (0, "o.mp4: 1 frames", ["o.mp4"], "ok 0"),
        (2, "note: x\nerror: no face", [], "ok 2"),
        (2, "usage: x\npython -m x: error: unknown", [], "ok 2"),
        (2, "error: a\nerror: b", [], "2 error lines"),
        (2, "nothing", [], "0 error lines"),
        (1, "Traceback (most recent call last):\n  x\nValueError: y", [], "traceback: ValueError: y"),
        (1, "", [], "exit code 1"),
        (-signal.SIGSEGV, "", [], "killed by SIGSEGV"),
        (-signal.SIGALRM, "", [], "no end in time"),
        (2, "error: x", ["o.mp4"], "left behind: o.mp4"),
        (0, "", ["o.mp4", "tmp/x"], "left behind: tmp/x"),
        (0, "", ["o.mp4.1.part"], "left behind: o.mp4.1.part"),
    ],
)
def test_a_case_is_judged_by_code_words_and_files(code: int, said: str, left: list[str], verdict: str) -> None:
    assert judge(code, said, [Path(name) for name in left], ("o.mp4",)) == verdict


def ends(arguments: list[str]) -> int:
    if arguments == ["signal"]:
        os.kill(os.getpid(), signal.SIGTERM)
    if arguments == ["raise"]:
        raise RuntimeError("oh")
    print("error: refused", file=sys.stderr)
    return 2


@pytest.mark.parametrize(
    ("argument", "verdict"),
    [("plain", "ok 2"), ("raise", "traceback: RuntimeError: oh"), ("signal", "killed by SIGTERM")],
)
def test_a_command_runs_in_a_process_of_its_own(
    argument: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fuzz.KINDS, "words", lambda material, folder, random: Case(ends, [argument]))
    found, _ = fuzz.run_case(None, "words", 0, 0, tmp_path)  # type: ignore[arg-type]
    assert found == verdict
    assert (tmp_path / "words_00000").exists() != verdict.startswith("ok")


def test_fifty_broken_inputs_of_the_cheap_kinds_and_a_run_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cheap = ["--kinds", "words", "config", "--output", str(tmp_path)]
    assert main([*cheap, "--count", "20"]) == 0
    assert main([*cheap, "--count", "25"]) == 0
    assert len((tmp_path / "results.tsv").read_text().splitlines()) == 50
    assert "| words | 25 |" in capsys.readouterr().out
