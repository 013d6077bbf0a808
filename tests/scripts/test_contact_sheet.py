from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from modules.media.pixels import to_float
from scripts.contact_sheet import STAGE_1, TURNS, columns_of_videos, main, sheet, views
from tasks.data.procedural_views import CachedViews
from tasks.engine.settings import read_settings
from tests.videos import counting_frames, write_video


def test_pictures_stand_in_rows_and_the_rest_is_black():
    pictures = torch.stack([torch.full((3, 2, 4), value) for value in (-0.5, 0.0, 1.0)])
    grid = sheet(pictures, columns=2)
    assert grid.shape == (4, 8, 3)
    assert [int(grid[row, column, 0]) for row, column in ((0, 0), (0, 7), (3, 0), (3, 7))] == [64, 128, 255, 0]


def test_the_command_writes_a_turntable(tmp_path):
    assert main(["turntable", "--size", "16", "--output", str(tmp_path / "new" / "turn.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "new" / "turn.png"))
    assert picture.shape == (16 * len(TURNS) // 5, 80, 3) and picture.std() > 20


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["video", "talk.mp4"], "talk_sheet.png"),
        (["video", "talk.mp4", "talk.mp4", "talk.mp4"], "talk_and_2_more_sheet.png"),
        (["turntable", "--size", "8"], "turntable_sheet.png"),
        (["turntable", "--size", "8", "--seed", "5"], "turntable_5_sheet.png"),
    ],
)
def test_a_sheet_without_a_name_is_called_by_what_it_shows(tmp_path, monkeypatch, capsys, arguments, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "talk.mp4", counting_frames(2, 16, 32))
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == [f"infer_out/{name}"]
    assert [path.name for path in (tmp_path / "infer_out").iterdir()] == [name]


@pytest.mark.parametrize("what, frames", [("people", 3), ("views", 3)])
def test_people_and_views_have_a_picture_each(tmp_path, what, frames):
    path = tmp_path / "a.png"
    assert main([what, "--size", "16", "--count", str(frames), "--columns", "2", "--output", str(path)]) == 0
    picture = np.asarray(Image.open(path)).astype(float)
    assert picture.shape == (32, 32, 3) and picture[16:, 16:].max() == 0  # the place of the fourth
    assert all(part.std() > 5 for part in (picture[:16, :16], picture[:16, 16:], picture[16:, :16]))


def test_views_are_those_that_the_training_reads(tmp_path):
    config = replace(read_settings(STAGE_1).task_config.views, people=2, size=16, cache=str(tmp_path), workers=1)
    items = CachedViews(config, pairs_per_person=1, every_view=True)
    trained = torch.cat([items[number]["images"] for number in range(2)])
    assert torch.equal(views(0, config.views + 2, 16), to_float(trained)[: config.views + 2])


def test_a_sheet_of_videos_has_a_row_for_each(tmp_path):
    one = write_video(tmp_path / "eins.mp4", counting_frames(5, 16, 32))
    two = write_video(tmp_path / "zwei.mp4", counting_frames(20, 16, 32)[::-1])
    assert main(["video", str(one), str(two), "--count", "3", "--output", str(tmp_path / "s.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "s.png")).astype(float)
    assert picture.shape == (32, 96, 3)
    cells = picture.reshape(2, 16, 3, 32, 3).mean(axis=(1, 3, 4))
    assert np.abs(cells - [[20, 36, 52], [172, 92, 20]]).max() < 7


@pytest.mark.parametrize("files, count, columns", [(1, 20, 5), (1, 6, 6), (2, 20, 5), (3, 24, 8), (2, 11, 11)])
def test_many_pictures_of_a_video_are_a_grid(files, count, columns):
    assert columns_of_videos(files, count) == columns


def test_a_video_with_fewer_frames_than_its_row_shows_them_again(tmp_path):
    path = write_video(tmp_path / "kurz.mp4", counting_frames(2, 16, 32))
    assert main(["video", str(path), str(path), "--count", "5", "--output", str(tmp_path / "s.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert picture.shape == (32, 160, 3) and np.array_equal(picture[:16], picture[16:])


def bad_calls(folder) -> dict[str, list[str]]:
    """Arguments that must fail, by what is wrong with them."""
    small, large = (write_video(folder / f"{side}.mp4", counting_frames(2, side, side)) for side in (16, 32))
    (folder / "text.mp4").write_text("no video", encoding="utf-8")
    (folder / "taken.png").mkdir()
    output = ["--output", str(folder / "s.png")]
    return {
        "no size": ["people", "--size", "0", *output],
        "no columns": ["turntable", "--columns", "0", *output],
        "a negative seed": ["views", "--seed", "-1", *output],
        "no video": ["video", *output],
        "no such video": ["video", str(folder / "absent.mp4"), *output],
        "text as a video": ["video", str(folder / "text.mp4"), *output],
        "two sizes": ["video", str(small), str(large), *output],
        "a file for people": ["people", str(small), *output],
        "another ending": ["people", "--output", str(folder / "s.jpg")],
        "a folder": ["turntable", "--size", "16", "--output", str(folder / "taken.png")],
        "a folder that is a file": ["turntable", "--size", "16", "--output", str(folder / "text.mp4" / "s.png")],
    }


@pytest.mark.parametrize(
    "case, words",
    [
        ("no size", "--size"),
        ("no columns", "--columns is 0"),
        ("a negative seed", "--seed"),
        ("no video", "name the videos"),
        ("no such video", "absent.mp4"),
        ("text as a video", "text.mp4"),
        ("two sizes", "32.mp4 is 32 x 32 pixels, 16.mp4"),
        ("a file for people", "16.mp4"),
        ("another ending", "s.jpg"),
        ("a folder", "taken.png cannot be written"),
        ("a folder that is a file", "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capfd, case, words):
    arguments = bad_calls(tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    assert main(arguments) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert sorted(tmp_path.rglob("*")) == before
