"""PNCC pictures."""

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.pncc import render_pncc

SIZE = 128


@pytest.fixture(scope="module")
def pncc(face_model):
    return render_pncc(face_model, torch.zeros(1, 80), torch.zeros(1, 64), SIZE)[0]


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
