"""PNCC pictures and the closing of their eyes."""

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.pncc import blink_amounts, blink_curve, close_eyes, render_pncc

SIZE = 128


@pytest.fixture(scope="module")
def pncc(face_model):
    return render_pncc(face_model, torch.zeros(1, 80), torch.zeros(1, 64), SIZE)[0]


def hole(picture: torch.Tensor) -> torch.Tensor:
    """Pixels of the upper middle that show no skin."""
    return (picture < -0.99).all(dim=0)[SIZE // 4 : SIZE // 2, SIZE // 4 : 3 * SIZE // 4]


def test_the_background_is_minus_one_and_colours_are_the_coordinates(face_model, pncc):
    assert pncc.shape == (3, SIZE, SIZE)
    assert (pncc[:, 0, 0] == -1).all() and pncc.min() >= -1 and pncc.max() <= 1
    skin = (pncc > -1).any(dim=0)
    row, column = torch.nonzero(skin, as_tuple=True)
    assert torch.corrcoef(torch.stack([column.float(), pncc[0][skin]]))[0, 1] > 0.99  # x grows to the right
    assert torch.corrcoef(torch.stack([row.float(), pncc[1][skin]]))[0, 1] < -0.99  # y grows upwards


def test_a_shared_identity_is_drawn_for_every_expression(face_model, generator):
    expression = torch.randn(3, 64, generator=generator)
    pictures = render_pncc(face_model, torch.zeros(1, 80), expression, 32)
    assert pictures.shape == (3, 3, 32, 32)
    assert_close(pictures[1:2], render_pncc(face_model, torch.zeros(1, 80), expression[1:2], 32))


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
        fractions.append(
            float(((close_eyes(picture, 1.0) - close_eyes(picture, 0.0)).abs() > 0).float().mean())
        )
    assert abs(fractions[0] - fractions[1]) < 0.25 * fractions[0]


def test_a_blink_starts_open_and_is_closed_in_the_middle():
    curve = blink_curve(10)
    assert curve[0] == 0 and curve[5] == 1 and curve.max() == 1


def test_blinks_come_every_five_seconds_and_spare_the_last_frame(generator):
    amounts = blink_amounts(260, generator)
    assert all(amounts[start + 1 : start + 8].gt(0).all() for start in (0, 125))
    assert amounts[13:125].sum() == 0 and amounts[-1] == 0
    assert blink_amounts(1, generator).tolist() == [0]
