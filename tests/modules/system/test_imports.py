import gc
from collections.abc import Iterator

import pytest

from modules.system.imports import many_imports


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """Generations of the collector's passes, as they start."""
    seen: list[int] = []

    def note(phase: str, facts: dict) -> None:
        if phase == "start":
            seen.append(facts["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.unfreeze()


def test_many_objects_start_no_pass_inside_and_are_left_out_of_later_ones(passes: list[int]) -> None:
    with many_imports():
        kept = [[] for _ in range(20_000)]
    assert passes == []
    assert not any(value is kept for value in gc.get_objects())  # frozen
    others = [[] for _ in range(20_000)]
    assert passes and any(value is others for value in gc.get_objects())


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with many_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_an_error_turns_the_collector_on_again() -> None:
    with pytest.raises(ImportError), many_imports():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()
