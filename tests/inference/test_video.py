"""Whatever a checkpoint cannot do is said before the photo is analysed; `test_run.py` tests all the rest."""

import gc
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.options import check
from inference.pipeline import TalkingPortrait
from inference.run import main, parse
from inference.video import DEMO_PERSON, make_video, pose_from_file
from modules.media.video_writer import VideoWriter
from modules.portrait.build import build_portrait
from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import save_yaml, to_dict
from modules.system.errors import UserError
from tests.inference.test_pipeline import still_motion
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


def test_a_pose_is_played_back_and_forth_and_may_come_from_another_face_model(pipeline, tmp_path):
    euler = torch.arange(3.0)[:, None].repeat(1, 3) / 10
    replace(still_motion(3, euler=euler, translation=euler), face_model="ict").save(tmp_path / "pose.npz")
    pose = pose_from_file(pipeline, tmp_path / "pose.npz", 8)
    for part in pose:
        torch.testing.assert_close(part[:, 2], torch.tensor([0.0, 0.1, 0.2, 0.2, 0.1, 0.0, 0.0, 0.1]))


def test_the_library_gives_the_frames_of_the_command(checkpoint: Path, speech: Path, tmp_path: Path):
    """By the same three calls where the networks draw and where the rig does: nobody names the renderer."""
    with_rig = tmp_path / "with rig"
    shutil.copytree(checkpoint, with_rig)
    (with_rig / "rig").mkdir()
    save_yaml(with_rig / "rig" / "config.yaml", {})
    pictures = []
    for folder in (checkpoint, with_rig):
        options = ["--checkpoint", str(folder), "--device", "cpu", "--audio", str(speech), "--seed", "3"]
        output = tmp_path / f"frames of {folder.name}"
        assert main([*options, "--output", str(output)]) == 0
        talker = TalkingPortrait.load(folder, "cpu")
        motion = talker.speaking_motion(speech, seed=3)
        frames = list(talker.frames(talker.painter(DEMO_PERSON), motion))
        written = [np.array(Image.open(path)) for path in sorted(output.glob("*.png"))]
        assert len(frames) == len(written) == 11 and np.array_equal(frames, written)
        pictures.append(frames[0].shape)
    assert pictures == [(64, 64, 3), (512, 512, 3)]
