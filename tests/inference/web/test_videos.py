"""Videos of the server one after another; a route's view of them is in test_api.py."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.config import ServerLimits
from inference.web.lane import Lane
from inference.web.metrics import Metrics
from inference.web.refusals import Refusal
from inference.web.store import Store
from inference.web.studio import Media, Studio, VideoOptions
from inference.web.videos import Videos, VideoState

SHORT = VideoOptions(seconds=0.1)


@pytest.fixture
def videos(pipeline):
    limits = ServerLimits()
    store, lane = Store(10**9), Lane("test")
    yield lambda: Videos(Studio(pipeline, "planes", limits), store, lane, limits, Metrics())
    lane.close()
    assert list(store._folder.iterdir()) == [] and store.held == 0
    store.close()


def test_one_is_made_after_another_and_all_are_deleted_at_the_end(videos, portrait):
    async def go() -> None:
        mine = videos()
        jobs = [mine.shelf.get(mine.start(portrait, None, None, SHORT)) for _ in range(3)]
        assert [job.state for job in jobs] == [VideoState.WAITING] * 3
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [job.state for job in jobs] == [VideoState.RUNNING, VideoState.WAITING, VideoState.WAITING]
        await asyncio.gather(*(job.task for job in jobs))
        assert [job.report() for job in jobs] == [{"state": VideoState.DONE, "frames": 3, "total": 3}] * 3
        assert all(job.output.stat().st_size > 500 for job in jobs)
        mine.start(portrait, None, None, VideoOptions())
        await asyncio.sleep(0.3)
        await mine.close()

    asyncio.run(go())


def test_a_speech_that_is_deleted_meanwhile_is_still_said_and_one_that_fails_says_why(
    videos, portrait, speech, tmp_path
):
    async def go() -> None:
        mine = videos()
        upload = tmp_path / "upload"
        upload.write_bytes(speech.read_bytes())
        name = mine.start(portrait, Media(upload, 0.4, True, False), None, VideoOptions())
        upload.unlink()
        await mine.shelf.get(name).task
        assert mine.finished(name).making.total == 11
        upload.write_bytes(b"RIFF")
        name = mine.start(portrait, Media(upload, 0.4, True, False), None, VideoOptions())
        job = mine.shelf.get(name)
        await job.task
        assert job.state == VideoState.FAILED and job.report()["error"].startswith("the sound")
        with pytest.raises(Refusal, match="the sound") as refusal:
            mine.finished(name)
        assert refusal.value.status == 422
        await mine.close()

    asyncio.run(go())
