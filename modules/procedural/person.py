"""The procedural person of a seed: identity coefficients, colours, hair, clothes and light."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.procedural.hair import STYLES, HairStyle, hair_points

HELD_OUT_SEED = 900_000  # people and utterances from here on are never trained on
_SKIN = np.array(
    [
        [0.93, 0.79, 0.73],
        [0.90, 0.73, 0.64],
        [0.83, 0.64, 0.53],
        [0.70, 0.51, 0.40],
        [0.53, 0.37, 0.28],
        [0.38, 0.265, 0.205],
    ]
)
# fmt: off
_HAIR = np.array([[0.07, 0.055, 0.05], [0.17, 0.105, 0.07], [0.30, 0.185, 0.11], [0.46, 0.30, 0.17],
                  [0.72, 0.55, 0.32], [0.86, 0.74, 0.52], [0.52, 0.22, 0.09], [0.66, 0.65, 0.64], [0.88, 0.88, 0.87]])
# fmt: on
_IRIS = np.array(
    [
        [0.23, 0.13, 0.07],
        [0.36, 0.22, 0.11],
        [0.42, 0.35, 0.16],
        [0.30, 0.43, 0.27],
        [0.33, 0.50, 0.62],
        [0.45, 0.53, 0.57],
    ]
)
# fmt: off
_CLOTHES = np.array([[0.13, 0.15, 0.20], [0.17, 0.25, 0.42], [0.52, 0.13, 0.16], [0.88, 0.87, 0.84], [0.24, 0.38, 0.30],
                     [0.62, 0.62, 0.64], [0.80, 0.66, 0.44], [0.42, 0.26, 0.40], [0.30, 0.52, 0.62],
                     [0.10, 0.10, 0.11]])
# fmt: on
_FEMALE_STYLES = ("bob", "bangs", "long", "wavy", "bun", "curly", "crop")
_MALE_STYLES = ("short", "crop", "quiff", "curly", "receding", "bald", "short")


@dataclass(frozen=True)
class Person:
    """One procedural person. Colours are [3] RGB in 0..1, lengths dm.

    Args:
        seed: the argument of `sample_person`.
        identity: [80] coefficients, standard deviations.
        skin, lips, iris, hair, brows, clothes, clothes_accent: colours.
        hair_style: the cut.
        hair_points: [H, 3] its vertices over the average head.
        hem: [181] height of the painted hair line at whole degrees from the front.
        shade: the painter's numbers by name, in 0..1 unless `_shades` says otherwise.
        light: [2, 3] unit directions to the key and the fill light, in the head's axes.
        light_colour: [2, 3] their RGB intensities.
    """

    seed: int
    identity: Tensor
    skin: Tensor
    lips: Tensor
    iris: Tensor
    hair: Tensor
    brows: Tensor
    clothes: Tensor
    clothes_accent: Tensor
    hair_style: HairStyle
    hair_points: Tensor
    hem: Tensor
    shade: dict[str, float]
    light: Tensor
    light_colour: Tensor


def sample_person(seed: int) -> Person:
    """The person of a seed: seeds below 100000 are for training, from 900000 on held out."""
    draw = np.random.default_rng([20240, seed])
    identity = np.clip(draw.normal(size=80), -2.2, 2.2)
    female = bool(draw.random() < 0.5)
    darkness = draw.beta(1.1, 1.4)
    skin = _mix(_SKIN, darkness) * (1 + 0.02 * draw.normal(size=3))
    hair = _hair_colour(draw, darkness)
    brows = np.clip(hair * 0.75, 0.03, 0.5)
    style = _style(draw, female)
    red = np.array([0.72, 0.33, 0.33]) * (1 - 0.45 * darkness)
    made_up = female and draw.random() < 0.5
    paint = np.array([0.70, 0.16, 0.22]) if draw.random() < 0.5 else np.array([0.78, 0.36, 0.40])
    lips = 0.5 * skin + 0.5 * red
    if made_up:
        lips = 0.35 * lips + 0.65 * paint * (1 - 0.3 * darkness)
    iris = _IRIS[draw.choice(6, p=_iris_odds(darkness))] * draw.uniform(0.85, 1.2)
    clothes = _CLOTHES[draw.integers(10)] * draw.uniform(0.85, 1.1)
    points = hair_points(style, draw.uniform(0.7, 1.1), draw.uniform(0.8, 1.2))
    light, colour = _lights(draw)
    return Person(
        seed=seed,
        identity=_tensor(identity),
        skin=_tensor(skin),
        lips=_tensor(lips),
        iris=_tensor(iris),
        hair=_tensor(hair),
        brows=_tensor(brows),
        clothes=_tensor(clothes),
        clothes_accent=_tensor(_CLOTHES[draw.integers(10)]),
        hair_style=style,
        hair_points=_tensor(points),
        hem=_tensor(_hair_line(style)),
        shade=_shades(draw, female, made_up, darkness),
        light=light,
        light_colour=colour,
    )


def _shades(draw: np.random.Generator, female: bool, made_up: bool, darkness: float) -> dict[str, float]:
    bearded = not female and draw.random() < 0.40
    return {
        "phase": draw.uniform(0, 100),  # radians, of all noise
        "redness": draw.uniform(0.3, 1.0) * (1 - 0.6 * darkness),
        "freckles": float(draw.random() < 0.2) * draw.uniform(0.3, 1) * (1 - darkness),
        "stubble": 0.0 if female else draw.uniform(0.0, 0.35),
        "beard": draw.uniform(0.75, 0.95) if bearded else 0.0,
        "moustache": float(bearded or (not female and draw.random() < 0.1)),
        "brow_thick": draw.uniform(0.020, 0.028) if female else draw.uniform(0.026, 0.038),  # dm, half
        "brow_arch": draw.uniform(0.025, 0.060) if female else draw.uniform(0.008, 0.040),  # dm
        "brow_tilt": draw.uniform(-0.04, 0.02),  # dm, outer end up
        "brow_dense": draw.uniform(0.70, 0.95),
        "lashes": draw.uniform(0.7, 1.0) if female else draw.uniform(0.35, 0.6),
        "eye_shadow": draw.uniform(0.2, 0.6) if made_up else 0.0,
        "age": draw.beta(1.2, 2.2),
        "gloss": draw.uniform(0.03, 0.10),
        "neckline": draw.integers(4),  # crew, round, V, collar
        "pattern": draw.integers(4),  # plain, plain, stripes, open jacket
        "strands": draw.uniform(0.7, 1.3),
    }


def _style(draw: np.random.Generator, female: bool) -> HairStyle:
    names = _FEMALE_STYLES if female else _MALE_STYLES
    name = names[draw.integers(len(names))]
    return next(style for style in STYLES if style.name == name)


def _hair_line(style: HairStyle) -> np.ndarray:
    """Height of the painted hair line at whole degrees: where hair grows, however far it hangs down."""
    degrees = np.arange(181.0)
    return np.maximum(style.hem_heights(degrees), STYLES[0].hem_heights(degrees) - 0.06 * (degrees < 60))


def _hair_colour(draw: np.random.Generator, darkness: float) -> np.ndarray:
    light, dark = (3, 3, 2.5, 2, 1.2, 0.8, 0.7, 0.6, 0.4), (6, 3, 1, 0.2, 0, 0, 0, 0.6, 0.3)
    odds = np.array(light if darkness < 0.4 else dark)
    return np.clip(_HAIR[draw.choice(9, p=odds / odds.sum())] * draw.uniform(0.85, 1.15), 0, 1)


def _iris_odds(darkness: float) -> np.ndarray:
    odds = np.array([2, 2, 1.5, 1.2, 2, 1]) if darkness < 0.4 else np.array([6, 3, 0.6, 0.1, 0.1, 0])
    return odds / odds.sum()


def _lights(draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    side = draw.choice([-1, 1])
    turn, rise = side * draw.uniform(0.15, 0.95), draw.uniform(0.2, 0.75)
    key = [np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)]
    turn, rise = -side * draw.uniform(0.5, 1.3), draw.uniform(-0.1, 0.4)
    fill = [np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)]
    warmth = draw.uniform(-0.05, 0.06)
    colours = np.array([[1 + warmth, 1.0, 1 - warmth], [1 - 1.2 * warmth, 1.0, 1 + 1.2 * warmth]])
    return _tensor(np.array([key, fill])), _tensor(colours * [[draw.uniform(0.38, 0.54)], [draw.uniform(0.08, 0.20)]])


def _mix(colours: np.ndarray, share: float) -> np.ndarray:
    position = share * (len(colours) - 1)
    low = min(int(position), len(colours) - 2)
    return colours[low] + (position - low) * (colours[low + 1] - colours[low])


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array)).float()
