"""Whatever a checkpoint cannot do is said before the photo is analysed; `test_run.py` tests all the rest."""

import gc
from pathlib import Path

import pytest
import torch

from inference.options import check
from inference.run import parse
from inference.video import make_video
from modules.media.video_writer import VideoWriter
from modules.portrait.build import build_portrait
from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tests.tiny import tiny_portrait_config


def test_a_background_is_refused_where_the_head_alone_is_drawn(tmp_path: Path):
    config = tiny_portrait_config(stage=2, driving=DrivingConfig.demo())
    with torch.random.fork_rng(devices=[]):
        save_checkpoint(
            tmp_path / "c" / "portrait", {"model": to_dict(config)}, dict(build_portrait(config).named_children())
        )
    (tmp_path / "m.json").touch()
    options = parse(
        ["--checkpoint", str(tmp_path / "c"), "--motion", str(tmp_path / "m.json"), "--background", "white"]
        + ["--output", str(tmp_path / "o.mp4"), "--device", "cpu"]
    )
    check(options)
    with pytest.raises(UserError, match="--background is for checkpoints of stage 3; .* is of stage 2"):
        make_video(options)


def test_a_video_that_nobody_begins_to_write_leaves_nothing(tmp_path: Path):
    video = VideoWriter(tmp_path / "o.mp4", (64, 64))
    assert len(list(tmp_path.iterdir())) == 1
    del video
    gc.collect()
    assert list(tmp_path.iterdir()) == []
