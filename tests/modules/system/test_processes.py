import os
from functools import partial

import pytest
import torch

from modules.system.errors import UserError
from modules.system.processes import run_all


def where(offset: int, item: int) -> tuple[int, int, int]:
    """The item plus an offset, the process, and its threads."""
    return item + offset, os.getpid(), torch.get_num_threads()


def fail(item: int) -> int:
    raise UserError(f"item {item} is bad")


def die(item: int) -> None:
    os._exit(1)


def test_one_worker_is_this_process_and_keeps_the_order():
    results = list(run_all(partial(where, 10), [3, 1, 2], workers=1))
    assert [item for item, _, _ in results] == [13, 11, 12] and {pid for _, pid, _ in results} == {os.getpid()}
    assert list(run_all(fail, [], workers=4)) == []


def test_several_workers_do_every_item_once_with_one_thread_each():
    results = list(run_all(partial(where, 0), list(range(8)), workers=2))
    assert sorted(item for item, _, _ in results) == list(range(8))
    assert os.getpid() not in {pid for _, pid, _ in results} and {threads for _, _, threads in results} == {1}


def test_an_error_of_a_worker_is_raised_here():
    with pytest.raises(UserError, match="item [12] is bad"):
        list(run_all(fail, [1, 2], workers=2))


def test_a_killed_worker_is_explained():
    with pytest.raises(UserError, match="fewer workers"):
        list(run_all(die, [1, 2], workers=2))
