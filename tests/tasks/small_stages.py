"""Every stage in small, with a fixed batch: for the tests that ask the same of all of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from modules.audio.syncnet import SyncNet
from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from tasks.data.eg3d_views import EG3DTeacher, EG3DViewsConfig
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.task import Task
from tasks.stages.a2m import A2MLossConfig
from tasks.stages.htbsr import HTBSRTask, HTBSRTaskConfig
from tasks.stages.i2p import I2PConfig, I2PTask
from tasks.stages.motion_adapter import MotionAdapterTask, MotionAdapterTaskConfig
from tasks.stages.syncnet import SyncNetTaskConfig
from tests.tasks.tiny_images import ADVERSARY, RATES, RAW, SIZE, pair_batch, tiny_model, view_batch
from tests.tasks.tiny_speech import DATA, SYNC, a2m_task, sync_task

STAGES = ("i2p", "motion_adapter", "htbsr", "syncnet", "a2m")
FRAMES = 32  # of an utterance
Batch = dict[str, Tensor]
HEAD = {"image": 1.0, "image_raw": 1.0, "edges": 0.5, "mask": 0.1}
TORSO = {"image": 1.0, "lips": 0.2, "torso_cover": 0.1, "torso_image": 0.5, "occlusion_entropy": 0.001}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def speech_batch(generator: torch.Generator, batch: int = 4) -> Batch:
    """A batch as of `tasks.data.speech_clips`, of noise, all utterances of the same length."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return {
        "audio": noise(2 * FRAMES, 80),
        "f0": 100 + 10 * noise(2 * FRAMES),
        "blink": (noise(2 * FRAMES, 1) > 1).long(),
        "mouth_amplitude": noise(1).abs(),
        "eye_amplitude": noise(1).abs(),
        "identity": noise(80),
        "expression": 0.3 * noise(FRAMES, 64),
        "mask": torch.ones(batch, FRAMES),
    }


def turned_pairs(generator: torch.Generator, batch: int = 4) -> Batch:
    """Frame pairs of heads that are turned and moved, so that their cameras are not round numbers."""
    pairs = pair_batch(generator, batch)
    pairs["euler"] = 0.3 * torch.randn(batch, 2, 3, generator=generator)
    pairs["translation"] = pairs["translation"] + 0.2 * torch.randn(batch, 2, 3, generator=generator)
    return pairs


def views(generator: torch.Generator, batch: int = 4) -> Batch:
    """Views of the procedural teacher."""
    parts = [view_batch(generator) for _ in range(batch // 2)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def i2p(**changes: object) -> I2PTask:
    loss = HEAD | {"density": 0.25, "adversarial_reference": 0.1, "adversarial_target": 0.025}
    config = I2PConfig(model=tiny_model(1), teacher="procedural", loss=loss, adversary=ADVERSARY, learning_rates=RATES)
    return I2PTask(replace(config, start_adversarial=0, **changes), seeded())


def motion_adapter(**changes: object) -> MotionAdapterTask:
    config = MotionAdapterTaskConfig(
        model=tiny_model(2),
        data=ClipDataConfig(eye_closing=True),
        loss=HEAD | {"lips": 0.5, "entropy": 0.01, "adversarial": 0.01, "density": 0.25, "laplacian": 1.0},
        loss_targets={"eye_closing": 1e-6},
        adversary=ADVERSARY,
        learning_rates=RATES,
        start_adversarial=0,
    )
    return MotionAdapterTask(replace(config, **changes), seeded())


def htbsr(**changes: object) -> HTBSRTask:
    config = HTBSRTaskConfig(
        model=tiny_model(3),
        data=ClipDataConfig(torso=True),
        loss=TORSO | {"adversarial": 0.01},
        adversary=ADVERSARY,
        learning_rates=RATES,
        start_adversarial=0,
    )
    return HTBSRTask(replace(config, **changes), seeded())


def a2m(folder: Path) -> Task:
    """A2M with a lip-sync expert, whose checkpoint is written to `folder`."""
    config = SyncNetTaskConfig(model=SYNC, features="mel", face_model="procedural", data=DATA)
    torch.manual_seed(0)
    save_checkpoint(folder / "sync", to_dict(config), {"syncnet": SyncNet(SYNC)})
    loss = A2MLossConfig(
        kl=0.02, kl_rise=1, expression=0.5, landmarks=0.5, laplacian=1.0, magnitude=0.1, sync=0.2, sync_pairs=32
    )
    return a2m_task(loss, sync_checkpoint=str(folder / "sync"))


def small_stage(stage: str, folder: Path) -> tuple[Task, Batch]:
    """The task and a batch of 4. The speech stages load the face model, so tests ask for the fixture `face`."""
    tasks: dict[str, tuple[Callable[[], Task], Callable[[torch.Generator], Batch]]] = {
        "i2p": (i2p, views),
        "motion_adapter": (motion_adapter, turned_pairs),
        "htbsr": (htbsr, turned_pairs),
        "syncnet": (sync_task, speech_batch),
        "a2m": (lambda: a2m(folder), speech_batch),
    }
    task, batch = tasks[stage]
    return task(), batch(seeded())


def tiny_eg3d_teacher() -> EG3DTeacher:
    """A teacher whose generator has random weights."""
    torch.manual_seed(0)
    size = {"feature_channels": 4, "middle_channels": 8, "output_channels": 8, "w_dim": 8}
    return EG3DTeacher(
        EG3DGenerator(
            EG3DConfig(
                w_dim=8,
                plane_resolution=8,
                base_channels=64,
                max_channels=8,
                neural_resolution=RAW,
                renderer=RendererConfig(plane_channels=4, hidden_channels=8, samples_coarse=4, samples_fine=4),
                superresolution=SuperresolutionConfig(resolution=SIZE // 4, **size),
            )
        ),
        EG3DViewsConfig(),
        4.2647,
    )
