"""The Basel Face Model as the released weights learnt it (docs/spec/face3d.md#2-3)."""

from pathlib import Path

from modules.face3d.bfm import load_bfm
from modules.face3d.morphable_model import MorphableModel

LANDMARK_OFFSET = 1  # the original reads the 1-based `keypoints` as if they were 0-based


def load_official_bfm(path: Path | None = None) -> MorphableModel:
    """`load_bfm` with the 68 landmarks of the released weights, which are one vertex too far."""
    return load_bfm(path, LANDMARK_OFFSET)
