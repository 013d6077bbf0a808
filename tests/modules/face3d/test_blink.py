"""The curve of a blink, and the closing of the eyes of a PNCC."""

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.blink import blink_curve, close_eyes
from modules.face3d.pncc import render_pncc

SIZE = 128


@pytest.fixture(scope="module")
def pncc(face_model):
    return render_pncc(face_model, torch.zeros(1, 80), torch.zeros(1, 64), SIZE)[0]


def hole(picture: torch.Tensor) -> torch.Tensor:
    """Pixels of the upper middle that show no skin."""
    return (picture < -0.99).all(dim=0)[SIZE // 4 : SIZE // 2, SIZE // 4 : 3 * SIZE // 4]


def test_closing_grows_with_the_amount_and_ends_without_holes(pncc):
    sizes = [int(hole(close_eyes(pncc, amount)).sum()) for amount in (0, 0.3, 0.6, 1)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 50 and sizes[-1] == 0


def test_only_the_eyes_change(pncc):
    changed = (close_eyes(pncc, 1.0) - close_eyes(pncc, 0.0)).abs().amax(dim=0) > 0
    assert changed.any()
    assert not changed[: SIZE // 4].any() and not changed[SIZE // 2 :].any()


def test_open_eyes_only_lose_precision(pncc):
    assert_close(close_eyes(pncc, 0.0), pncc, atol=1 / 127.5, rtol=0)


def test_a_picture_without_eye_holes_stays_as_it_is():
    picture = torch.full((3, 64, 64), 0.5)
    assert_close(close_eyes(picture, 1.0), close_eyes(picture, 0.0))


def test_the_edited_region_scales_with_the_picture(face_model):
    fractions = []
    for size in (128, 256):
        picture = render_pncc(face_model, torch.zeros(1, 80), torch.zeros(1, 64), size)[0]
        fractions.append(float(((close_eyes(picture, 1.0) - close_eyes(picture, 0.0)).abs() > 0).float().mean()))
    assert abs(fractions[0] - fractions[1]) < 0.25 * fractions[0]


def test_a_blink_starts_open_and_is_closed_in_the_middle():
    curve = blink_curve(10)
    assert curve[0] == 0 and curve[5] == 1 and curve.max() == 1
