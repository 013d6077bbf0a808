"""Motion of procedural people: how a head moves, blinks and looks around, and clips of it. 25 frames a second."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE, FaceCoefficients
from modules.media.rates import FRAME_RATE
from modules.procedural.backdrop import backdrop
from modules.procedural.head import EXPRESSIONS, ProceduralModel, expression_index
from modules.procedural.person import Person
from modules.procedural.render import render

_YAW, _PITCH, _ROLL = np.deg2rad([20.0, 12.0, 6.0])  # largest angles
# fmt: off
_UPPER_FACE = ("blink_left", "blink_right", "brows_up", "brows_down", "gaze_x", "gaze_y", "squint", "eyes_wide",
               "brow_inner_up", "brow_outer_up")
# fmt: on
_CHUNK = 8


@dataclass(frozen=True)
class ProceduralClip:
    """A rendered clip of T frames.

    Args:
        frames: [T, 3, H, W] in [-1, 1].
        classes: [T, H, W] uint8, the six classes.
        depth: [T, 1, H, W] dm from the camera, 0 where nothing is.
        coefficients: T rows, identity one row.
        background: [3, H, W] in [-1, 1].
    """

    frames: Tensor
    classes: Tensor
    depth: Tensor
    coefficients: FaceCoefficients
    background: Tensor


def sample_motion(seed: int, frames: int, speech_motion: Tensor | None = None) -> FaceCoefficients:
    """Expression and pose of a seed; a longer clip of the same seed begins with the shorter one.

    Args:
        seed: of the motion, independent of the person's.
        frames: T, 25 a second.
        speech_motion: [>= T, 64] expression of the mouth; None for a mouth that chats at random.
    Returns:
        T rows with identity zero (1 row); set it by `replace(identity=person.identity[None])`.
    """
    draw, eyes, brows, mouth = np.random.default_rng([25, seed]).spawn(4)
    time = np.arange(frames) / FRAME_RATE
    paces = ((_PITCH, 0.45), (_YAW, 0.30), (_ROLL, 0.35))
    euler = np.stack([limit * _drift(draw, time, pace) for limit, pace in paces], axis=1)
    position = np.array([draw.uniform(-0.12, 0.12), draw.uniform(0.02, 0.20), draw.uniform(-5.7, -4.7)])
    sway = np.stack([extent * _drift(draw, time, 0.25) for extent in (0.12, 0.06, 0.15)], axis=1)
    expression = np.zeros((frames, EXPRESSION_SIZE), dtype=np.float32)
    for name, values in {**_eyes(eyes, time), **_brows(brows, time)}.items():
        expression[:, expression_index(name)] = values
    if speech_motion is None:
        for name, values in _chat(mouth, time).items():
            expression[:, expression_index(name)] = values
    else:
        speech = speech_motion[:frames].detach().cpu().numpy().copy()
        speech[:, [expression_index(name) for name in _UPPER_FACE]] = 0
        expression += speech
        expression[:, expression_index("smile")] += mouth.uniform(0, 0.25) * (0.5 + 0.5 * _drift(mouth, time, 0.12))
    return FaceCoefficients(
        torch.zeros(1, IDENTITY_SIZE),
        torch.from_numpy(expression),
        torch.from_numpy(euler).float(),
        torch.from_numpy(position + sway).float(),
    )


def render_clip(model: ProceduralModel, person: Person, motion: FaceCoefficients, size: int) -> ProceduralClip:
    """Render a person in motion; the identity is the person's, whatever `motion` says.

    Args:
        motion: T rows.
        size: pixels a side.
    """
    coefficients = motion.replace(identity=person.identity[None])
    background = backdrop(person.seed, size)
    parts = [
        render(model, person, coefficients[first : first + _CHUNK], size, background=background)
        for first in range(0, len(motion), _CHUNK)
    ]
    fields = ("image", "classes", "depth")
    frames, classes, depth = (torch.cat([getattr(part, name) for part in parts]) for name in fields)
    return ProceduralClip(frames, classes, depth, coefficients, background)


def _drift(draw: np.random.Generator, time: np.ndarray, pace: float) -> np.ndarray:
    """[T] in [-1, 1], smooth: a few sines around `pace` hertz with a random extent."""
    waves = 4
    rates, phases = pace * draw.uniform(0.3, 1.7, waves), draw.uniform(0, 2 * np.pi, waves)
    weights = draw.uniform(0.4, 1, waves) / (0.5 + rates / pace)
    value = (weights * np.sin(2 * np.pi * rates * time[:, None] + phases)).sum(1) / weights.sum()
    return np.clip(value * draw.uniform(0.5, 1.3) + draw.uniform(-0.25, 0.25), -1, 1)


def _eyes(draw: np.random.Generator, time: np.ndarray) -> dict[str, np.ndarray]:
    """Blinks of 2 to 8 frames every few seconds; looks that jump and stay."""
    blinks, looks = draw.spawn(2)  # apart, so that a longer clip draws the same numbers
    wide = 0.5 * np.clip(_drift(draw, time, 0.3) - 0.45, 0, 1)
    closed, look = np.zeros_like(time), np.zeros((len(time), 2))
    start = blinks.uniform(0.2, 2.5)
    for _ in range(int(time[-1] if len(time) else 0) + 2):
        length = blinks.integers(2, 9) / FRAME_RATE
        share = np.clip((time - start) / length, 0, 1)
        closed = np.maximum(closed, np.clip(1.15 * np.sin(np.pi * share**0.8) ** 0.7, 0, 1))
        start += length + blinks.uniform(1.2, 4.5)
    moment = 0.0
    while moment <= (time[-1] if len(time) else 0):
        look[time >= moment] = looks.normal(size=2) * [0.35, 0.18]
        moment += looks.uniform(0.4, 2.0)
    look = np.stack([np.convolve(np.pad(column, 1, mode="edge"), [0.25, 0.5, 0.25], "valid") for column in look.T])
    gaze_x, gaze_y = look.clip(-1, 1)
    return {
        "blink_left": closed,
        "blink_right": closed,
        "gaze_x": gaze_x,
        "gaze_y": gaze_y,
        "eyes_wide": wide * (1 - closed),
    }


def _brows(draw: np.random.Generator, time: np.ndarray) -> dict[str, np.ndarray]:
    motion = _drift(draw, time, 0.5)
    return {
        "brows_up": np.clip(motion - 0.15, 0, 1),
        "brows_down": 0.6 * np.clip(-motion - 0.35, 0, 1),
        "brow_inner_up": 0.5 * np.clip(_drift(draw, time, 0.3) - 0.3, 0, 1),
    }


def _chat(draw: np.random.Generator, time: np.ndarray) -> dict[str, np.ndarray]:
    """A mouth that moves as if it spoke."""
    jaw = np.clip(0.30 + 0.75 * _drift(draw, time, 2.2) * (0.6 + 0.4 * _drift(draw, time, 0.4)), 0, 1)
    shape = _drift(draw, time, 1.3)
    press = np.clip(1.4 * _drift(draw, time, 1.6) - 0.5, 0, 1) * (jaw < 0.15)
    return {
        "jaw_open": 0.8 * jaw,
        "pucker": 0.8 * np.clip(shape - 0.1, 0, 1),
        "lip_corners": 0.7 * np.clip(-shape, 0, 1),
        "lips_press": press,
        "smile": 0.9 * np.clip(_drift(draw, time, 0.3) - 0.1, 0, 1),
        "funnel": 0.4 * np.clip(_drift(draw, time, 1.0) - 0.3, 0, 1),
        "lower_lip_down": 0.5 * np.clip(_drift(draw, time, 1.1) - 0.2, 0, 1),
        "upper_lip_up": 0.4 * np.clip(_drift(draw, time, 0.9) - 0.3, 0, 1),
        "tongue_up": 0.8 * np.clip(_drift(draw, time, 1.8), 0, 1),
    }


def named_expression(frames: int, **actions: float | Tensor) -> Tensor:
    """Expression [frames, 64] with given actions of EXPRESSIONS, else 0; values are numbers or [frames], 1 = full."""
    unknown = sorted(set(actions) - set(EXPRESSIONS))
    if unknown:
        raise ValueError(f"unknown expression {unknown[0]!r}; known: {', '.join(EXPRESSIONS)}")
    expression = torch.zeros(frames, EXPRESSION_SIZE)
    for name, value in actions.items():
        expression[:, expression_index(name)] = torch.as_tensor(value, dtype=torch.float32)
    return expression
