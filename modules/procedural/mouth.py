"""How the mouth moves when somebody speaks: a target for every speech sound, blended over its neighbours.

The targets are phonetic classes with round numbers, after the description of the sounds in phonetics (lips closed for
p b m, lower lip at the teeth for f v, lips rounded for u o w, jaw low for a). No number was fitted, but the order of
the classes, how pauses rest and the smoothing were settled with clips of real people in view. Loudness plays no part:
in real speech it says next to nothing about the opening.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE
from modules.media.rates import FRAME_RATE
from modules.procedural.head import EXPRESSIONS

Array = NDArray[np.float64]
PAUSE = "pause"
BILABIALS = ("p", "b", "m")
LONG_PAUSE = 0.5  # seconds of a pause in which the lips stay apart, ready for what follows
_NEUTRAL = 0.45
_GRID = 500  # Hz, on which the tracks are smoothed
_OPENING_WIDTH, _SHAPE_WIDTH, _CLOSURE_WIDTH = 0.045, 0.055, 0.02  # seconds, deviations of the Gaussians
_CLOSURE_GAIN = 2.0  # lips stay shut through most of p, b and m
_JAW, _CORNERS, _PUCKER, _PRESS = 0.8, 0.6, 0.8, 0.8  # an open vowel and so on of a normal speaker, of the full modes
_BALANCE = 0.6  # corners for each jaw: the jaw of the head draws them in, a speaker keeps them about as wide as at rest


@dataclass(frozen=True)
class MouthShape:
    """The mouth's target for a sound.

    Args:
        opening: of the lips, 0 closed to 1 wide.
        corners: drawn apart, 0..1.
        rounding: lips narrow and forward, 0..1.
        firmness: how much the sound insists on its width against its neighbours; most consonants take theirs.
    """

    opening: float
    corners: float = 0.0
    rounding: float = 0.0
    firmness: float = 1.0


# fmt: off
_CLASSES: dict[MouthShape, str] = {  # names as in speech.py's inventory, the others as in flite's phone set
    MouthShape(0.0, firmness=0.2): "p b m",                     # bilabial
    MouthShape(0.15, firmness=0.4): "f v",                      # labiodental
    MouthShape(0.15, rounding=1.0, firmness=1.5): "w",          # rounded, from narrow to open
    MouthShape(0.2, rounding=1.0): "u y uw",
    MouthShape(0.25, rounding=0.7): "U",
    MouthShape(0.3, rounding=0.75): "o ow",
    MouthShape(0.45, rounding=0.45): "O ao oy",
    MouthShape(0.4, rounding=0.4, firmness=0.6): "r er axr",
    MouthShape(0.45, corners=0.2, firmness=0.5): "s z",         # coronal: the jaw is free, the lips are apart
    MouthShape(0.45, firmness=0.2): "t d n l th dh dx nx",
    MouthShape(0.5, rounding=0.5, firmness=0.8): "sh zh ch jh",
    MouthShape(0.5, firmness=0.15): "k g ng",                   # velar
    MouthShape(0.45, corners=0.6, firmness=0.6): "j",
    MouthShape(0.6, firmness=0.1): "h hh",
    MouthShape(0.5, corners=0.9): "i iy",                       # spread vowels, from close to open
    MouthShape(0.5, corners=0.5): "I ih",
    MouthShape(0.7, corners=0.6): "ey",
    MouthShape(0.75, corners=0.4): "e eh",
    MouthShape(0.85, corners=0.25): "ae ay",
    MouthShape(0.5): "schwa ax",                                # neutral and open vowels
    MouthShape(0.6): "uh ah",
    MouthShape(0.7, rounding=0.35): "aw",
    MouthShape(0.85): "a aa",
    MouthShape(_NEUTRAL, firmness=0.5): PAUSE,
}
# fmt: on
MOUTH_SHAPES = {name: shape for shape, names in _CLASSES.items() for name in names.split()}


def mouth_track(names: Sequence[str], ends: Array, frames: int, openness: float = 1.0) -> Tensor:
    """The mouth of a stream of sounds as expression coefficients of the procedural head, [frames, 64].

    Opening, width and rounding glide from sound to sound (coarticulation); the lips meet for p, b and m however short
    they are, stay half open in a pause, and close when it has lasted half a second; before the first sound, if that is
    later, they are closed from the start.

    Args:
        names: S keys of MOUTH_SHAPES.
        ends: [S] seconds, rising; the first sound starts at 0, the last one lasts to the end.
        frames: 25 a second; frame t is the mouth at (t + 1/2) / 25 s.
        openness: how far the speaker opens the mouth, 1 = normal.
    """
    shapes = [MOUTH_SHAPES[name] for name in names]
    starts = np.concatenate([[0.0], ends[:-1]])
    shut = np.where(np.array(names) == PAUSE, starts + LONG_PAUSE, np.inf)  # when lips close in each sound
    if ends[0] > LONG_PAUSE:
        shut[0] -= LONG_PAUSE
    now = np.arange(frames * _GRID // FRAME_RATE) / _GRID
    at = np.minimum(np.searchsorted(ends, now, side="right"), len(ends) - 1)  # sound at each moment
    opening = np.where(now >= shut[at], 0.0, np.array([shape.opening for shape in shapes])[at])
    closed = np.isin(names, BILABIALS).astype(float)[at]
    closure = np.minimum(_CLOSURE_GAIN * gaussian_filter1d(closed, _CLOSURE_WIDTH * _GRID), 1)
    firmness = np.array([shape.firmness for shape in shapes])[at]

    def shaped(values: list[float]) -> Array:
        width = _SHAPE_WIDTH * _GRID
        return gaussian_filter1d(firmness * np.array(values)[at], width) / gaussian_filter1d(firmness, width)

    jaw = np.minimum(_JAW * openness * gaussian_filter1d(opening, _OPENING_WIDTH * _GRID), 1) * (1 - closure)
    tracks = {
        "jaw_open": jaw,
        "lip_corners": np.minimum(_CORNERS * shaped([s.corners for s in shapes]) + _BALANCE * jaw, 1),
        "pucker": _PUCKER * shaped([shape.rounding for shape in shapes]),
        "lips_press": _PRESS * closure,
    }
    middle = ((np.arange(frames) + 0.5) * _GRID / FRAME_RATE).astype(np.int64)
    expression = np.zeros((frames, EXPRESSION_SIZE), dtype=np.float32)
    for name, track in tracks.items():
        expression[:, EXPRESSIONS.index(name)] = track[middle]
    return torch.from_numpy(expression)
