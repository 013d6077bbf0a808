import numpy as np
import pytest
import torch
from torch import Tensor

from modules.face_models import load_face_model
from modules.metrics.lips import lip_closure
from modules.metrics.series import distance, mouth_opening
from modules.procedural.head import EXPRESSIONS
from modules.procedural.mouth import BILABIALS, MOUTH_SHAPES, PAUSE, mouth_track
from modules.procedural.speech import INVENTORY


def track(names: str, seconds: float = 0.1, frames: int = 50, openness: float = 1.0) -> tuple[Tensor, np.ndarray]:
    """The track of sounds of equal length, and the frames in their middles."""
    sounds = names.split()
    ends = seconds * np.arange(1, len(sounds) + 1)
    middles = np.minimum(((ends - seconds / 2) * 25).astype(int), frames - 1)
    return mouth_track(sounds, ends, frames, openness), middles


def mode(expression: Tensor, name: str) -> Tensor:
    return expression[:, EXPRESSIONS.index(name)]


def test_every_sound_of_the_inventory_has_a_mouth() -> None:
    assert INVENTORY.keys() <= MOUTH_SHAPES.keys()
    assert all(0 <= v <= 1 for shape in MOUTH_SHAPES.values() for v in (shape.opening, shape.corners, shape.rounding))


@pytest.mark.parametrize("bilabial", BILABIALS)
def test_lips_meet_for_short_bilabials_and_not_for_their_neighbours(bilabial: str) -> None:
    expression, middles = track(f"a t {bilabial} a k a", 0.06)
    closed = mode(expression, "jaw_open")[middles]
    assert closed[2] < 0.03 and closed[[0, 3, 4, 5]].min() > 0.1
    assert mode(expression, "lips_press")[middles[2]] > 0.6


def test_lip_closure_of_the_faces_themselves() -> None:
    face = load_face_model("procedural")
    names = "a p a t i m e s o b u k a f e".split()
    ends = 0.12 * np.arange(1, len(names) + 1)
    points = face.landmarks(torch.zeros(1, 80), mouth_track(names, ends, 45), 478)
    spans = torch.tensor(np.stack([ends - 0.12, ends], axis=1) * 25)
    inside = torch.tensor([[0.3, -0.3]])  # the neighbours close and open on the way
    bilabial = torch.tensor(np.isin(names, BILABIALS))
    closure = lip_closure(mouth_opening(points[..., :2]), spans[bilabial], spans[~bilabial] + inside)
    assert closure.kept == 1 and closure.false < 0.35


def test_openings_follow_the_phonetic_classes() -> None:
    def opening(name: str) -> float:
        expression, middles = track(f"schwa {name} schwa", 0.3)
        return float(mode(expression, "jaw_open")[middles[1]])

    for closer, wider in (
        ("p", "f"),
        ("f", "u"),
        ("w", "o"),
        ("u", "t"),
        ("o", "t"),
        ("t", "e"),
        ("k", "e"),
        ("e", "a"),
    ):
        assert opening(closer) < opening(wider)


def test_width_and_rounding_reach_over_consonants() -> None:
    def shape(name: str) -> tuple[float, float]:
        expression, middles = track(f"t {name} t", 0.1)
        points = load_face_model("procedural").landmarks(torch.zeros(1, 80), expression, 478)[..., :2]
        width = distance(points, (61, 291)) / distance(points, (33, 263))
        return float(width[middles[1]]), float(width[middles[0]])

    (wide, before_wide), (narrow, before_narrow) = shape("i"), shape("u")
    assert wide > narrow + 0.08
    assert before_wide > before_narrow + 0.03  # coarticulation


def test_a_pause_is_half_open_at_first_and_closed_when_it_lasts() -> None:
    names, ends = ["a", PAUSE, "a", PAUSE, "a"], np.array([0.4, 0.7, 1.1, 2.1, 2.5])
    jaw = mode(mouth_track(names, ends, 62), "jaw_open")
    assert 0.25 < jaw[13] < 0.45 and 0.25 < jaw[33:37].min() < jaw[33:37].max() < 0.45
    assert jaw[44:50].max() < 0.03


def test_the_mouth_is_closed_before_somebody_begins_to_speak() -> None:
    jaw = mode(mouth_track([PAUSE, "a"], np.array([1.0, 2.0]), 50), "jaw_open")
    assert jaw[:22].max() < 0.03 and jaw[30] > 0.6
    soon = mode(mouth_track([PAUSE, "a"], np.array([0.4, 2.0]), 50), "jaw_open")
    assert soon[:6].min() > 0.3


def test_the_mouth_moves_smoothly_and_as_far_as_the_speaker_opens_it() -> None:
    names = " ".join(np.random.default_rng(0).choice([n for n in MOUTH_SHAPES if n not in BILABIALS], 30))
    usual, small = (mode(track(names, 0.08, 60, openness)[0], "jaw_open") for openness in (1.0, 0.5))
    assert usual.diff().abs().max() < 0.25
    torch.testing.assert_close(small, usual / 2, rtol=0, atol=1e-4)
