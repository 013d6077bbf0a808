from pathlib import Path

import pytest
import torch

from modules.audio.syncnet import SyncNet, SyncNetConfig
from modules.metrics.own_syncnet import load_own_lip_sync
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError

TINY = SyncNetConfig(
    audio_size=80, keypoints="lip", base=4, mouth_base=4, layers_per_block=1, embedding=8, score="logit"
)


def write(folder: Path, features: str = "mel") -> Path:
    """A random network as `tasks.run` keeps it."""
    torch.manual_seed(0)
    config = {"model": to_dict(TINY), "features": features, "face_model": "procedural"}
    save_checkpoint(folder, config, {"syncnet": SyncNet(TINY)})
    return folder


def test_a_checkpoint_scores_a_fit_with_its_sound(tmp_path: Path, generator: torch.Generator) -> None:
    sync = load_own_lip_sync(write(tmp_path / "syncnet"), tmp_path)
    expression = torch.randn(60, 64, generator=generator)
    wave = 0.1 * torch.randn(60 * 640, generator=generator)
    score = sync(torch.zeros(80), expression, wave)
    assert score is not None and 0 <= score.distance <= 2 and score.confidence >= 0 and abs(score.offset) <= 15
    assert sync.face_model == "procedural"
    again = load_own_lip_sync(tmp_path, tmp_path)  # the folder around it
    assert again(torch.zeros(80), expression, wave) == score


def test_a_frame_without_a_face_repeats_the_one_before(tmp_path: Path, generator: torch.Generator) -> None:
    sync = load_own_lip_sync(write(tmp_path / "syncnet"), tmp_path)
    expression, wave = torch.randn(40, 64, generator=generator), 0.1 * torch.randn(40 * 640, generator=generator)
    held, holes = expression.clone(), expression.clone()
    held[10:12], held[:2] = expression[9], expression[2]
    holes[10:12], holes[:2] = torch.nan, torch.nan
    assert sync(torch.zeros(80), holes, wave) == sync(torch.zeros(80), held, wave)
    assert sync(torch.zeros(80), torch.full_like(holes, torch.nan), wave) is None
    assert sync(torch.zeros(80), expression[:5], wave) is None


def test_a_network_that_hears_hubert_or_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features=hubert"):
        load_own_lip_sync(write(tmp_path / "other", "hubert"), tmp_path)
    with pytest.raises(UserError, match="no checkpoint"):
        load_own_lip_sync(tmp_path / "nowhere", tmp_path)
