import numpy as np
import torch
from PIL import Image

from scripts.contact_sheet import TURNS, main, sheet


def test_pictures_stand_in_rows_and_the_rest_is_black():
    pictures = torch.stack([torch.full((3, 2, 4), value) for value in (-0.5, 0.0, 1.0)])
    grid = sheet(pictures, columns=2)
    assert grid.shape == (4, 8, 3)
    assert [int(grid[row, column, 0]) for row, column in ((0, 0), (0, 7), (3, 0), (3, 7))] == [64, 128, 255, 0]


def test_the_command_writes_a_turntable(tmp_path):
    assert main(["turntable", "--size", "16", "--output", str(tmp_path / "new" / "turn.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "new" / "turn.png"))
    assert picture.shape == (16 * len(TURNS) // 5, 80, 3) and picture.std() > 20


def test_bad_numbers_are_a_short_error(tmp_path, capsys):
    assert main(["people", "--size", "0", "--output", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.startswith("error: --size")
