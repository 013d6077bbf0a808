"""Every stage takes the same steps from prepared folders, from shards and from a store of them, to the last bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_gen.pack import pack
from modules.clips.format import list_clips
from modules.clips.splits import SplitConfig
from modules.clips.store import StoreConfig
from tasks.data.eg3d_views import EG3DTeacher, EG3DViewsConfig
from tasks.engine.loader import StreamSampler, item_count, training_loader
from tasks.engine.task import Task
from tasks.engine.trainer_config import LoaderConfig
from tasks.stages.a2m import A2MTask
from tasks.stages.i2p import TEACHERS, I2PConfig
from tests.tasks.conftest import face
from tests.tasks.small_stages import STAGES, a2m, htbsr, i2p, motion_adapter, tiny_eg3d_teacher
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import write_tiny_clips
from tests.tasks.tiny_speech import DATA, sync_task, write_spoken_clips

__all__ = ["face"]  # a fixture

COUNT = 3  # steps


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips with pictures and clips of speech, each in folders of their own and in shards."""
    root = tmp_path_factory.mktemp("sources")
    write_tiny_clips(root / "pictures", clips=3, frames=6)
    write_spoken_clips(root / "speech", clips=3)
    for name in ("pictures", "speech"):
        pack(root / name, root / f"{name}_shards", megabytes=1e-4)
        assert len(list((root / f"{name}_shards").glob("*.tar"))) > 1
    return {path.name: path for path in root.iterdir()}


def make(stage: str, folder: str, scratch: Path) -> Task:
    """The stage in small, on the clips of a folder."""
    common = {"folder": folder, "split": SplitConfig(validation=0, test=0)}
    common["store"] = StoreConfig(cache=str(scratch / "cache"))
    if stage == "i2p":
        views = EG3DViewsConfig(pose_clips=folder, store=common["store"])
        return i2p(teacher="eg3d", eg3d=views, loss={"image": 1.0, "image_raw": 1.0})
    if stage in ("syncnet", "a2m"):
        data = replace(DATA, max_clips=1, **common)
        if stage == "syncnet":
            return sync_task(data=data)
        task = a2m(scratch)
        return A2MTask(replace(task.config, data=data), torch.Generator().manual_seed(0))
    task: Callable[..., Task] = {"motion_adapter": motion_adapter, "htbsr": htbsr}[stage]
    data = replace(task().config.data, **common)
    return task(data=data)


@pytest.fixture(autouse=True)
def tiny_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher of stage 1 is a generator of random weights."""

    def build(config: I2PConfig) -> EG3DTeacher:
        teacher = tiny_eg3d_teacher()
        return EG3DTeacher(teacher.generator, config.eg3d, teacher.focal_length)

    monkeypatch.setitem(TEACHERS, "eg3d", build)


def losses(task: Task) -> list[dict[str, float]]:
    """Those of some steps, on what a worker of the trainer's loader reads."""
    torch.manual_seed(0)
    data, take_step = task.train_dataset(), Steps(task)
    sampler = StreamSampler(item_count(data), 2, seed=4)
    batches = iter(training_loader(data, sampler, LoaderConfig(batch=2, workers=1), task.collate))
    return [take_step(next(batches), step) for step in range(COUNT)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_the_same_steps_from_folders_shards_and_a_store(stage, sources, tmp_path, face):
    kind = "speech" if stage in ("syncnet", "a2m") else "pictures"
    alone, packed = sources[kind], sources[f"{kind}_shards"]
    expected = losses(make(stage, str(alone), tmp_path))
    assert all(step and all(value == value for value in step.values()) for step in expected)
    assert losses(make(stage, str(packed), tmp_path)) == expected
    assert losses(make(stage, packed.as_uri(), tmp_path)) == expected
    assert list((tmp_path / "cache").glob("*/shard-*/*/*/clip.npz"))  # it did come from the store


def test_pnccs_that_the_workers_draw_are_those_of_the_step(sources, tmp_path):
    """On a CPU; the PNCCs of the clips are not stored."""
    for clip in list_clips(sources["pictures"]):
        target = tmp_path / "plain" / clip.name
        target.mkdir(parents=True)
        for path in clip.iterdir():
            if not path.name.startswith("pncc_"):
                (target / path.name).symlink_to(path)
    drawn = []
    for where in ("step", "loader"):
        task = make("motion_adapter", str(tmp_path / "plain"), tmp_path)
        task.config = replace(task.config, data=replace(task.config.data, pncc=where))
        drawn.append(losses(task))
    assert drawn[0] == drawn[1]
