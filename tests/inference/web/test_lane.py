"""A lane does one thing after another, beside the thread that answers."""

import asyncio
import threading

import pytest
import torch

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.lane import Lane
from inference.web.refusals import Refusal


def test_work_is_done_in_order_in_one_thread_with_its_torch_threads():
    async def go() -> None:
        lane, done = Lane("test", threads=1), []
        threads = await asyncio.gather(
            *(lane.run(lambda k=k: done.append(k) or threading.get_ident()) for k in range(9))
        )
        assert done == list(range(9)) and len(set(threads)) == 1 and threads[0] != threading.get_ident()
        assert await lane.run(torch.get_num_threads) == 1 and lane.waiting == 0
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 / 0)
        assert lane.waiting == 0
        lane.close()

    asyncio.run(go())


def test_too_much_work_is_refused_and_what_waits_is_dropped_at_the_end():
    async def go() -> None:
        lane, gate, done = Lane("test", most=2), threading.Event(), []
        first = asyncio.create_task(lane.run(gate.wait))
        second = asyncio.create_task(lane.run(done.append, 1))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="2 pieces of work wait"):
            lane.admit()
        second.cancel()
        await asyncio.sleep(0)
        lane.admit()
        gate.set()
        assert await first
        lane.close()
        assert done == []

    asyncio.run(go())
