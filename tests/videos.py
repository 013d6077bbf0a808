"""Small videos and sounds for tests, written with the project's own encoder."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from modules.media.audio import Sound
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import VideoWriter


def counting_frames(count: int, height: int = 48, width: int = 64, channels: int = 3) -> list[np.ndarray]:
    """Plain frames, each of its own brightness: 20, 28, 36 ..."""
    return [np.full((height, width, channels), 20 + 8 * i, np.uint8) for i in range(count)]


def levels(frames: Iterable[np.ndarray]) -> list[int]:
    """Number of the counting frame that each frame shows."""
    return [round((float(frame.mean()) - 20) / 8) for frame in frames]


def tone(seconds: float, rate: int = 16_000, channels: int = 1) -> Sound:
    """440 Hz at half of the full range."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return Sound.from_samples(np.repeat(wave[:, None], channels, axis=1), rate)


def write_video(
    path: Path, frames: Sequence[np.ndarray], sound: Sound | None = None, fps: int = FRAME_RATE, alpha: bool = False
) -> Path:
    """Frames uint8 [H, W, 3 or 4] of one size as a video file."""
    height, width = frames[0].shape[:2]
    with VideoWriter(path, (width, height), fps=fps, alpha=alpha, sound=sound) as writer:
        for frame in frames:
            writer.write(frame)
    return path
