import numpy as np
import torch
from PIL import Image

from inference.video import VideoWriter
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


def test_a_sheet_of_videos_has_a_row_for_each(tmp_path):
    for name, grey in (("eins.mp4", 40), ("zwei.mp4", 200)):
        with VideoWriter(tmp_path / name, (32, 16)) as writer:
            for _ in range(5):
                writer.write(np.full((16, 32, 3), grey, np.uint8))
    videos = [str(tmp_path / name) for name in ("eins.mp4", "zwei.mp4")]
    assert main(["video", *videos, "--count", "3", "--output", str(tmp_path / "s.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert picture.shape == (32, 96, 3)
    assert abs(int(picture[8, 50, 0]) - 40) < 6 and abs(int(picture[24, 50, 0]) - 200) < 6
    assert main(["video", "--output", str(tmp_path / "s.png")]) == 2
