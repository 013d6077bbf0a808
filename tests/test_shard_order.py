"""The order in which training reads clips is a function of seed, epoch and position: whatever the workers, the ranks,
whether the clips are packed, and where runs were killed.
"""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from data_gen.pack import pack
from modules.clips.format import list_clips
from tasks.data.frame_pairs import ClipDataConfig, FramePairs
from tasks.engine.loader import StreamSampler, training_loader
from tasks.engine.trainer_config import LoaderConfig
from tests.tasks.tiny_images import write_tiny_clips

CLIPS, PAIRS, SEED = 5, 3, 7
SAMPLES = 4  # of a step, all ranks together
EPOCH = CLIPS * PAIRS  # 15: epochs end within steps


class Named(Dataset):
    """Items of the pairs as text: number, clip, the poses of both frames and a sum of the pixels."""

    def __init__(self, folder: Path) -> None:
        config = ClipDataConfig(folder=str(folder), face_model="procedural", pairs_per_clip=PAIRS)
        self.pairs = FramePairs(config, list_clips(folder))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> str:
        item = self.pairs[index]
        pixels = int(item["source_image"].sum() + 3 * item["target_image"].sum())
        return f"{index}/{self.pairs.clips[index % CLIPS].name}/{item['expression'].sum():.5f}/{pixels}"


def steps(folder: Path, workers: int, world: int, start: int, count: int):
    """What the ranks of `count` steps see together, from sample `start` on, a list of texts a step."""
    data, batch = Named(folder), SAMPLES // world
    loaders = []
    for rank in range(world):
        sampler = StreamSampler(len(data), batch, SEED, start, rank, world)
        loaders.append(iter(training_loader(data, sampler, LoaderConfig(batch=batch, workers=workers), list)))
    for _ in range(count):
        yield [text for loader in loaders for text in next(loader)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """The same clips in folders of their own, and in shards of two."""
    root = tmp_path_factory.mktemp("order")
    write_tiny_clips(root / "alone", clips=CLIPS, frames=6)
    pack(root / "alone", root / "packed", megabytes=1e-4)
    assert len(list((root / "packed").glob("*.tar"))) > 1
    return root / "alone", root / "packed"


@pytest.fixture(scope="module")
def expected(folders) -> list[str]:
    """The samples of ten steps, in order, of the clips that are not packed."""
    return [text for step in steps(folders[0], 0, 1, 0, 10) for text in step]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_ranks_and_shards_do_not_change_the_order(folders, expected, workers, world):
    assert [text for step in steps(folders[1], workers, world, 0, 10) for text in step] == expected


def test_an_epoch_has_every_item_once_and_the_next_another_order(expected):
    first, second = ([text.split("/")[0] for text in expected[i : i + EPOCH]] for i in (0, EPOCH))
    assert len(set(first)) == len(set(second)) == EPOCH and first != second


@pytest.mark.parametrize("start, workers, world", [(4, 2, 2), (12, 1, 2), (20, 4, 1), (36, 0, 4)])
def test_a_stopped_epoch_continues_at_its_next_item_with_another_world(folders, expected, start, workers, world):
    count = (40 - start) // SAMPLES
    rest = [text for step in steps(folders[1], workers, world, start, count) for text in step]
    assert rest == expected[start:]


def _train(folder: Path, log: Path, workers: int, world: int, count: int) -> None:
    """Go on where the log ends, a line a step, each written at once; ends after `count` steps in all."""
    torch.set_num_threads(1)
    done = log.read_text().count("\n") if log.is_file() else 0
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for texts in steps(folder, workers, world, SAMPLES * done, count - done):
        os.write(file, (" ".join(texts) + "\n").encode())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_runs_that_are_killed_twenty_times_see_the_same_sequence(folders, tmp_path):
    """Each run has other workers and ranks, dies by SIGKILL at a random moment, and the next goes on from its log."""
    count, log, chance = 120, tmp_path / "log.txt", random.Random(3)
    context = multiprocessing.get_context("fork")
    kills = 0
    while True:
        workers, world = chance.choice((0, 1, 2, 4)), chance.choice((1, 2))
        run = context.Process(target=_train, args=(folders[1], log, workers, world, count))
        before = log.read_text().count("\n") if log.is_file() else 0
        run.start()
        enough = before + chance.randint(0, 8)
        while run.is_alive() and kills < 20:
            if log.is_file() and log.read_text().count("\n") >= enough:
                time.sleep(chance.uniform(0, 0.03))
                os.kill(run.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        run.join()
        if run.exitcode == 0:
            break
        assert run.exitcode == -signal.SIGKILL
        kills += 1
    assert kills == 20
    seen = log.read_text().split()
    assert seen == [text for step in steps(folders[0], 0, 1, 0, count) for text in step]
