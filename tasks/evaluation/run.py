"""All cases of an evaluation, one after the other or by several processes, with the same figures."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from modules.system.errors import UserError
from tasks.evaluation.cases import Case, list_cases
from tasks.evaluation.lineup import check_methods
from tasks.evaluation.results import Result
from tasks.evaluation.scoring import LEFT_OUT, score_case
from tasks.evaluation.settings import EvaluationConfig

Progress = Callable[[int, int, Case, int], None]  # cases done, all cases, the case, results that were made
Job = tuple[Case, EvaluationConfig, bool]  # as `score_case` takes them
RENEWED = 20  # cases after which a process is replaced: native code of the analysis keeps some memory of each


def score_all(config: EvaluationConfig, workers: int, progress: Progress) -> tuple[list[Case], list[str]]:
    """Make all results that are missing; the cases, and what the report says of files that were not used.

    Args:
        workers: processes; each has one thread for networks and fits.
    Raises:
        UserError: no videos, none that can be used, a wrong method, or a process died.
    """
    cases, notes = list_cases(config)
    notes += check_methods(config, cases)
    jobs = [(case, config, number < config.keep) for number, case in enumerate(cases)]
    here = workers <= 1 and len(jobs) <= RENEWED
    for start in range(0, len(jobs), RENEWED * max(workers, 1)):
        part = jobs[start : start + RENEWED * max(workers, 1)]
        finished = map(_score_here, part) if here else _score_in_processes(part, max(workers, 1))
        for done, (case, made) in enumerate(finished, start=start + 1):
            progress(done, len(cases), case, made)
    check_any(config, cases)
    return cases, notes


def check_any(config: EvaluationConfig, cases: list[Case]) -> None:
    """Refuse to make a table of nothing.

    Raises:
        UserError: every case was left out; the message has the reason of the first.
    """
    errors = [result.error if (result := Result.load(config.output, "truth", case.name)) else "" for case in cases]
    if all(error.startswith(LEFT_OUT) for error in errors):
        others = f" (the first of {len(cases)})" if len(cases) > 1 else ""
        raise UserError(f"no clip can be used{others}: {errors[0].removeprefix(LEFT_OUT)}")


def _score_here(job: Job) -> tuple[Case, int]:
    return job[0], score_case(*job)


def _score_in_processes(jobs: list[Job], workers: int) -> Iterator[tuple[Case, int]]:
    """Each case, as it is done, and how many results were made."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_ctrl_c_to_the_parent) as pool:
        try:
            running = {pool.submit(score_case, *job): job[0] for job in jobs}
            for future in as_completed(running):
                yield running[future], future.result()
        except BrokenProcessPool as error:
            raise UserError("a worker process died (out of memory?); run again with fewer --workers") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
