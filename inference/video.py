"""stub"""
from dataclasses import dataclass
import numpy as np


@dataclass(frozen=True)
class Sound:
    samples: np.ndarray   # [N, C] float32 in [-1, 1]
    rate: int


def open_video(path, fps=25):
    raise NotImplementedError


def read_sound(path, optional=False):
    raise NotImplementedError


class VideoWriter:
    def __init__(self, path, size, fps=25, alpha=False, sound=None):
        raise NotImplementedError
