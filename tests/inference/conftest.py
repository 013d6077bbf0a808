"""A tiny checkpoint with random weights, a short sentence, and the portrait of a procedural person."""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.speech import SpeechToMotion
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.whisper import WhisperConfig, WhisperFeatures
from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.portrait.build import build_portrait
from modules.portrait.driving import DrivingConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from tests.tiny import tiny_portrait_config


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest sizes; its pictures are noise of 64 pixels, its path is the real one."""
    folder = tmp_path_factory.mktemp("ein Ordner mit Ümlaut") / "check point"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = tiny_portrait_config(driving=DrivingConfig.demo())
        portrait = build_portrait(config)
        torch.nn.init.normal_(portrait.motion_adapter.to_plane_cnn[-1].weight, std=0.2)  # a face that moves visibly
        speech_config = Audio2MotionConfig(
            audio_size=80,
            condition_size=8,
            width=8,
            encoder_layers=1,
            decoder_layers=1,
            flow_width=4,
            flow_layers=1,
            flow_couplings=2,
        )
        speech = Audio2Motion(speech_config)
    save_checkpoint(folder / "portrait", {"model": to_dict(config)}, dict(portrait.named_children()))
    save_checkpoint(
        folder / "audio2motion",
        {"model": to_dict(speech_config), "features": "mel", "face_model": "procedural"},
        {"audio2motion": speech},
    )
    return folder


@pytest.fixture(scope="session")
def pipeline(checkpoint: Path) -> TalkingPortrait:
    return TalkingPortrait.load(checkpoint, "cpu")


@pytest.fixture(scope="session")
def portrait(pipeline: TalkingPortrait) -> Portrait:
    return pipeline.procedural_portrait(900_001)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.44 s of a buzz that swells and fades: 11 frames."""
    path = tmp_path_factory.mktemp("speech") / "Satz eins.wav"
    time = np.arange(7040) / 16000
    wave = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12)) * np.sin(np.pi * time / 0.44) ** 2
    soundfile.write(path, (0.2 * wave).astype(np.float32), 16000)
    return path


@pytest.fixture(scope="session")
def clip(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 12 frames of a real clip, with its sound."""
    source = media / "driving" / "talk_man_german_25fps.mp4"
    path = tmp_path_factory.mktemp("clip") / "Sprecher.mp4"
    _, frames = open_video(source)
    with VideoWriter(path, (512, 512), sound=read_sound(source)) as video:
        for frame in islice(frames, 12):
            video.write(frame)
    return path


@pytest.fixture
def whisper_listener(tmp_path) -> SpeechToMotion:
    """A checkpoint that listens through layers of Whisper beside it, all with random weights."""
    sizes = WhisperConfig(width=8, heads=2, layers=1, block=16, before=4, after=2)
    config = Audio2MotionConfig(
        audio_size=8, condition_size=8, width=8, encoder_layers=1, decoder_layers=1, downsample="average"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_checkpoint(
            tmp_path / "w" / "audio2motion",
            {"model": to_dict(config), "features": "whisper", "face_model": "procedural"},
            {"audio2motion": Audio2Motion(config)},
        )
        save_checkpoint(tmp_path / "w" / "whisper", {"model": to_dict(sizes)}, {"whisper": WhisperFeatures(sizes)})
    return SpeechToMotion.load(tmp_path / "w" / "audio2motion", torch.device("cpu"))


def sung(samples: int) -> np.ndarray:
    """A voice that glides, with pauses."""
    phase = np.cumsum(np.linspace(100, 300, samples)) * 2 * np.pi / 16000
    return (0.1 * sum(np.sin(k * phase) for k in range(1, 5)) * (np.arange(samples) % 9000 > 2000)).astype(np.float32)


class SmallDisk:
    """A disk of 4 MB.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, left: int) -> Path:
        """Write a file that leaves so many bytes."""
        filler = self.folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(self.folder).free - left))
        return filler


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "a disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    command = [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not mount or not unmount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([unmount, "-l", str(folder)], check=True)
