import numpy as np
import pytest
import torch
from PIL import Image

from inference.background import load_background
from modules.system.errors import UserError


def test_a_colour_fills_the_picture():
    scene = load_background("#ff8000", 8)
    expected = torch.tensor([1.0, 128 / 127.5 - 1, -1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(scene, expected)


def test_a_wide_picture_is_cut_not_squashed(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 255  # the middle square
    Image.fromarray(picture).save(tmp_path / "weiter Strand.png")
    assert float(load_background(str(tmp_path / "weiter Strand.png"), 16).min()) == 1.0


def test_words_are_kept_and_nonsense_is_refused():
    assert load_background("photo", 8) is None and load_background("transparent", 8) == "transparent"
    with pytest.raises(UserError, match="no such picture and no such colour"):
        load_background("nowhere.png", 8)
