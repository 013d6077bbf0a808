"""One step of every full-size stage on the CPU: all parts fit together and into memory, without outside files.

Stand-ins of the same sizes replace those: a procedural teacher and face model, clips of noise, no perceptual network.
"""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import tasks.stages.adversary
from modules.system.checkpoint import list_checkpoints
from scripts.benchmark import peak_memory
from scripts.check_gpu import ALL_AT_ONCE, CLIP_SIZE, FACE, stand_in_clips
from tasks.run import main
from tests.conftest import ROOT
from tests.tasks.helpers import metrics

pytestmark = pytest.mark.slow

SHORT = (
    "steps=1",
    "loader.workers=0",
    "precision=bf16-mixed",
    "log.validate_every=0",
    "log.pictures_every=0",
    "log.videos_every=0",
    "log.every=1",
)
GIBIBYTE = 2**30


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 512 pixels with PNCCs and speech features."""
    return stand_in_clips(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="module")
def expert(clips: Path) -> Path:
    """The run of the lip-sync expert."""
    return step("syncnet", clips.parent / "syncnet", "face_model=procedural", f"data.folder={clips}", "pairs=256")


@pytest.fixture
def penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient penalty is computed in every step."""
    monkeypatch.setattr(tasks.stages.adversary, "R1_EVERY", 1)


def step(stage: str, run: Path, *overrides: str) -> Path:
    """Train one step."""
    nobody = () if stage == "i2p" else ("data.split={validation: 0, test: 0}",)  # is held out
    assert (
        main(
            [str(ROOT / f"configs/{stage}.yaml"), *SHORT, *nobody, *overrides, "--output", str(run), "--device", "cpu"]
        )
        == 0
    )
    return run


def millions(run: Path) -> dict[str, float]:
    """Millions of numbers of each module of the checkpoint, to a tenth; modules up to 0.2 are left out."""
    (folder,) = list_checkpoints(run)
    counts = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            counts[path.stem] = round(sum(file.get_tensor(key).numel() for key in file.keys()) / 1e6, 1)
    return {name: count for name, count in counts.items() if count > 0.2}


def check(run: Path, *losses: str) -> None:
    """The losses were logged and memory stayed below that of a common machine; a loss that is not finite ends a run."""
    for loss in losses:
        assert len(metrics(run, f"loss/{loss}")) == 1
    assert peak_memory(torch.device("cpu")) < 20 * GIBIBYTE


def test_image_to_plane(tmp_path: Path, penalty: None) -> None:
    run = step(
        "i2p",
        tmp_path / "run",
        *ALL_AT_ONCE,
        "loss.perceptual_raw=0",
        "teacher=procedural",
        "views.people=1",
        "views.views=3",
        f"views.size={CLIP_SIZE}",
        f"views.cache={tmp_path}",
        "views.workers=1",
        "held_out_people=1",
        "density_every=1",
        "initial_weights=none",
        "unfreeze={renderer: 0, superresolution: 0}",
    )
    check(run, "target_image", "target_adversarial", "target_density", "gradient_penalty_1")
    # numbers include buffers: running means and noise maps
    assert millions(run) == {"image_to_plane": 87.4, "superresolution": 2.3, "discriminator": 31.4}


def test_motion_adapter(tmp_path: Path, clips: Path, penalty: None) -> None:
    run = step(
        "motion_adapter",
        tmp_path / "run",
        *ALL_AT_ONCE,
        *FACE,
        "loss.perceptual_raw=0",
        f"data.folder={clips}",
        "laplacian_every=1",
        "density_every=1",
        "initial_weights=none",
        "unfreeze={motion_adapter: 0, renderer: 0, superresolution: 0}",
        "superresolution_alone_from=null",
    )
    check(
        run, "image", "lips", "adversarial", "laplacian", "eye_closing", "density", "source_image", "gradient_penalty_0"
    )
    assert millions(run).keys() == {"image_to_plane", "motion_adapter", "superresolution", "discriminator"}


def test_htbsr(tmp_path: Path, clips: Path, penalty: None) -> None:
    run = step("htbsr", tmp_path / "run", *ALL_AT_ONCE, *FACE, f"data.folder={clips}")
    check(run, "image", "lips", "occlusion_entropy", "adversarial", "source_image", "gradient_penalty_0")
    assert millions(run).keys() == {"image_to_plane", "motion_adapter", "htbsr", "discriminator"}


def test_lip_sync_expert(expert: Path) -> None:
    check(expert, "sync")
    assert millions(expert).keys() == {"syncnet"}


def test_audio_to_motion(tmp_path: Path, clips: Path, expert: Path) -> None:
    run = step("a2m", tmp_path / "run", "face_model=procedural", f"data.folder={clips}", f"sync_checkpoint={expert}")
    check(run, "expression", "landmarks", "laplacian", "magnitude", "kl", "sync")
    assert millions(run).keys() == {"audio2motion"}
