"""Downloaded videos as published lists speak of them, made of a procedural talking head."""

from pathlib import Path

import numpy as np
import pytest

from data_gen.faces import FaceLimits
from modules.media.audio import Sound
from modules.media.rates import FRAME_SAMPLES, SAMPLE_RATE
from tests.data_gen.stand_in import FRAMES, SIZE, StandIn, install, talking_head
from tests.videos import tone, write_video

LEAD = 20  # frames before the talk
TOP, LEFT, HEIGHT, WIDTH = 40, 80, 240, 320  # where the talk is in a picture of this size
START, STOP = LEAD / 25, (LEAD + FRAMES) / 25
SMALL = {
    "face_model": "procedural",
    "size": 96,
    "shortest": 0.4,
    "workers": 1,
    "limits": FaceLimits(smallest_face=40),
    "licence": "of the test",
}


@pytest.fixture
def talk(monkeypatch) -> np.ndarray:
    """Frames uint8 [FRAMES, SIZE, SIZE, 3] that the stand-in of the detector knows."""
    frames, landmarks = talking_head()
    install(monkeypatch, StandIn(frames, landmarks))
    return frames


def long_video(path: Path, talk: np.ndarray, scale: int = 1) -> Path:
    """A grey and silent video that shows the talk for a while, with a tone, in a part of its picture."""
    frames = np.full((LEAD + FRAMES + LEAD, HEIGHT, WIDTH, 3), 90, np.uint8)
    frames[LEAD : LEAD + FRAMES, TOP : TOP + SIZE, LEFT : LEFT + SIZE] = talk
    wave = np.zeros(len(frames) * FRAME_SAMPLES, np.float32)
    wave[LEAD * FRAME_SAMPLES : (LEAD + FRAMES) * FRAME_SAMPLES] = tone(FRAMES / 25).samples()[:, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    return write_video(path, frames, Sound.from_samples(wave, SAMPLE_RATE))
