"""Videos that the server makes, one at a time, frame by frame between the other work of its lane."""

import asyncio
import gc
import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from pathlib import Path

from inference.web.config import ServerLimits
from inference.web.lane import Lane
from inference.web.metrics import Metrics
from inference.web.refusals import Refusal, refusal_of
from inference.web.shelf import Shelf
from inference.web.store import Store
from inference.web.studio import Making, Media, Painter, Studio, VideoOptions
from modules.system.files import whole_file


class VideoState(StrEnum):
    """How far a video is; the last three are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class VideoJob:
    """A video that is asked for.

    Attributes:
        making: how far it is.
        output: the file, once it is done.
        layers: the archive of its layers, likewise, if they were asked for.
        failure: why it failed.
    """

    output: Path
    layers: Path | None = None
    state: VideoState = VideoState.WAITING
    making: Making = field(default_factory=Making)
    failure: Refusal | None = None
    task: asyncio.Task[None] | None = None

    def files(self) -> list[Path]:
        """What it leaves once it is done."""
        return [path for path in (self.output, self.layers) if path is not None]

    def report(self) -> dict[str, object]:
        """What is said of it."""
        told = {"state": self.state, "frames": self.making.frames, "total": self.making.total}
        return told if self.failure is None else told | {"error": str(self.failure)}


class Videos:
    """The videos of a server.

    Attributes:
        shelf: by their names.
    """

    def __init__(
        self, studio: Studio, store: Store, lane: Lane, limits: ServerLimits, metrics: Metrics, keep: Path | None = None
    ) -> None:
        """`keep`: a folder where finished videos are also left; None: nothing outlives the server."""
        self._studio, self._store, self._lane, self._metrics, self._keep = studio, store, lane, metrics, keep
        self._turn = asyncio.Lock()
        self.shelf: Shelf[VideoJob] = Shelf("video", limits.videos, limits.idle_seconds, self._put_away)

    def start(self, painter: Painter, speech: Media | None, driving: Media | None, options: VideoOptions) -> str:
        """Begin a video and give its name.

        Raises:
            Refusal: too many are held or too much work waits.
        """
        self._lane.admit()
        self.shelf.admit()
        job = VideoJob(self._store.new_path(".mp4"), self._store.new_path(".zip") if options.layers else None)
        inputs = [None if media is None else self._store.copy(media.path) for media in (speech, driving)]
        name = self.shelf.add(job)
        job.task = asyncio.create_task(self._work(job, painter, inputs, options))
        return name

    def finished(self, name: str) -> VideoJob:
        """A video that is done.

        Raises:
            Refusal: there is none of that name, or it is not done.
        """
        job = self.shelf.get(name)
        if job.failure is not None:
            raise job.failure.again()
        if job.state != VideoState.DONE:
            raise Refusal(HTTPStatus.CONFLICT, f"the video is {job.state}; ask for its state first", 1)
        return job

    async def close(self) -> None:
        """Stop and delete all."""
        tasks = [job.task for job in self.shelf if job.task is not None]
        self.shelf.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, job: VideoJob, painter: Painter, inputs: list[Path | None], options: VideoOptions) -> None:
        try:
            async with self._turn:
                job.state = VideoState.RUNNING
                await self._draw(job, painter, inputs, options)
                for path in job.files():
                    self._store.count(path)
                if self._keep is not None:
                    await self._lane.run(_leave, job.output, self._keep)
            job.state = VideoState.DONE
        except asyncio.CancelledError:
            job.state = VideoState.CANCELLED
        except Exception as error:
            # A new one, as the error holds all that was at hand when it came.
            job.failure, job.state = refusal_of(error).again(), VideoState.FAILED
        finally:
            left = [] if job.state == VideoState.DONE else job.files()
            for path in filter(None, [*left, *inputs]):
                self._store.remove(path)
            self._metrics.videos.labels(job.state).inc()
            gc.collect()  # as at the end of a conversation

    async def _draw(self, job: VideoJob, painter: Painter, inputs: list[Path | None], options: VideoOptions) -> None:
        given = options.namespace(*inputs, None if job.layers is None else job.layers.with_suffix(""))
        steps = self._studio.video(painter, given, options.background, job.output, job.making)
        try:
            while await self._lane.run(partial(next, steps, self)) is not self:
                pass
        finally:
            self._metrics.frames.labels("video").inc(job.making.frames)
            await asyncio.shield(self._lane.run(steps.close))  # in its turn, after the step that may be running

    def _put_away(self, job: VideoJob) -> None:
        if job.task is not None and not job.task.done():
            job.task.cancel()
        else:
            for path in job.files():
                self._store.remove(path)


def _leave(video: Path, folder: Path) -> None:
    with whole_file(folder / f"talk_{video.name}") as part:
        shutil.copyfile(video, part)
