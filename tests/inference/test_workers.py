import threading
import time

import pytest
import torch

from inference.workers import FramePool, map_in_order


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def late_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item * item

    assert list(map_in_order(late_first, range(10), workers)) == [i * i for i in range(10)]


def test_each_worker_has_one_torch_thread_and_the_caller_keeps_its_own() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert set(map_in_order(lambda _: torch.get_num_threads(), range(6), 2)) == {1}
        assert list(map_in_order(lambda _: torch.get_num_threads(), range(2), 0)) == [2, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_work_is_done_side_by_side_and_no_more_than_a_few_items_ahead() -> None:
    started: list[int] = []
    both = threading.Barrier(2, timeout=10)

    def work(item: int) -> int:
        started.append(item)
        if item < 2:
            both.wait()  # needs two workers at the same time
        return item

    results = map_in_order(work, range(100), 2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 4
    results.close()
    assert len(started) <= 5


def test_an_error_is_raised_where_the_results_are_read() -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    results = map_in_order(fail, range(50), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_a_pool_that_is_given_keeps_its_threads_also_after_an_error_or_half_of_the_work() -> None:
    with FramePool(2) as pool:

        def thread(item: int) -> int:
            if item == 7:
                raise ValueError("item 7")
            return threading.get_ident()

        seen = {ident for _ in range(20) for ident in map_in_order(thread, range(6), pool)}
        for _ in range(5):
            results = map_in_order(thread, range(9), pool)
            seen |= {next(results), next(results)}
            results.close()
            with pytest.raises(ValueError, match="item 7"):
                seen |= set(map_in_order(thread, range(9), pool))
        assert len(seen) <= 2
