"""Further arrays of clips: each declared once, filled into finished clips, and carried by name into batches.

    python -m data_gen.run configs/data/videos.yaml folder=data/own --add mouth_opening
    python -m tasks.run configs/htbsr.yaml data.folder=data/own 'data.fields=[mouth_opening]'

A field is a function of a clip and a line in `FIELDS`; a loss may then name it among its inputs (docs/extending.md).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modules.clips.format import Clip
from modules.clips.shards import has_file, not_packed, open_file
from modules.face3d.landmark_sets import INNER_LIP_MIDDLES, MOUTH_CORNERS
from modules.system.config import nearest
from modules.system.errors import UserError
from modules.system.files import whole_file


@dataclass(frozen=True)
class Field:
    """An array of a clip.

    Attributes:
        what: its meaning, shape and unit, in a line.
        compute: clip -> [T, ...], a row for each frame; any type that NumPy stores.
    """

    what: str
    compute: Callable[[Clip], np.ndarray]


def mouth_opening(clip: Clip) -> np.ndarray:
    """Distance of the inner lips by the width of the mouth, float32 [T, 1]; NaN without landmarks."""
    points = clip.landmarks
    if points.shape[1] < max(*INNER_LIP_MIDDLES, *MOUTH_CORNERS) + 1:
        return np.full((len(clip), 1), np.nan, np.float32)
    height, width = (
        np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in (INNER_LIP_MIDDLES, MOUTH_CORNERS)
    )
    return (height / np.maximum(width, 1e-6)).astype(np.float32)[:, None]


def brightness(clip: Clip) -> np.ndarray:
    """Mean brightness of each picture in [0, 1], float32 [T, 1]."""
    return np.array([[frame.mean() / 255] for frame in clip.all_frames()], np.float32)


FIELDS = {
    "mouth_opening": Field("inner lips' distance by mouth width, [T, 1]", mouth_opening),
    "brightness": Field("mean brightness of the pictures in [0, 1], [T, 1]", brightness),
}


def check_fields(names: Collection[str]) -> None:
    """Refuse names that are in no line of `FIELDS`: ValueError, for configs."""
    for name in names:
        if name not in FIELDS:
            raise ValueError(f"fields names {name}{nearest(name, FIELDS)}")


def field_file(folder: Path, name: str) -> Path:
    """Path of a field of a clip, whether it has it or not."""
    return folder / f"field_{name}.npy"


def add_field(folder: Path, name: str) -> bool:
    """Compute a field of a finished clip, unless it has it; returns whether it was computed.

    Raises:
        UserError: the clip is damaged or cannot be written.
        ValueError: the field has not a row for each frame.
    """
    path = field_file(folder, name)
    if has_file(path):
        return False
    clip = Clip(folder)
    rows = FIELDS[name].compute(clip)
    if len(rows) != len(clip):
        raise ValueError(f"field {name} has {len(rows)} rows, the clip {len(clip)} frames")
    try:
        with whole_file(not_packed(path)) as part, part.open("wb") as file:
            np.save(file, rows)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); free some space") from error
    return True


def read_field(clip: Clip, name: str) -> np.ndarray:
    """A field of a clip, [T, ...].

    Raises:
        UserError: the clip has none, or a damaged one; the message says how to add it.
    """
    path = field_file(clip.folder, name)
    advice = f"add it: python -m data_gen.run CONFIG folder={clip.folder.parent} --add {name}"
    if not has_file(path):
        raise UserError(f"{clip.folder} has no {name}; {advice}")
    try:
        with open_file(path) as file:
            rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and {advice}") from error
    if len(rows) != len(clip):
        raise UserError(f"{path} has {len(rows)} rows for {len(clip)} frames; delete it and {advice}")
    return rows
