"""Processes are renewed, so that memory does not grow with the number of clips."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.evaluation import run
from tasks.evaluation.cases import Case


@pytest.mark.parametrize(
    ("count", "workers", "sizes"), ((2, 1, []), (5, 1, [2, 2, 1]), (5, 2, [4, 1]), (2, 2, [2]), (4, 0, [2, 2]))
)
def test_a_process_has_few_cases_and_every_case_is_told(monkeypatch, count: int, workers: int, sizes: list[int]):
    cases = [Case(f"clip {number}", Path("a.mp4"), Path("a.mp4")) for number in range(count)]
    seen, told = [], []

    def in_processes(jobs: list[run.Job], most: int):
        seen.append(len(jobs))
        assert most == max(workers, 1)
        return ((case, 1) for case, _, _ in jobs)

    monkeypatch.setattr(run, "RENEWED", 2)
    monkeypatch.setattr(run, "list_cases", lambda config: (cases, []))
    monkeypatch.setattr(run, "check_methods", lambda config, cases: [])
    monkeypatch.setattr(run, "check_any", lambda config, cases: None)
    monkeypatch.setattr(run, "score_case", lambda case, config, keep: 1)
    monkeypatch.setattr(run, "_score_in_processes", in_processes)
    assert run.score_all(SimpleNamespace(keep=1), workers, lambda *news: told.append(news)) == (cases, [])
    assert seen == sizes
    assert told == [(number + 1, count, case, 1) for number, case in enumerate(cases)]
