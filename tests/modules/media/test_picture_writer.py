"""Animations, folders of pictures and stills: whole or not at all, and marked as synthetic."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.media.picture_writer import PictureWriter, open_output
from modules.media.video_writer import VideoWriter
from modules.system.errors import UserError


def frames(count: int, channels: int = 3) -> list[np.ndarray]:
    """Grey pictures that become brighter, with a red corner."""
    pictures = []
    for number in range(count):
        picture = np.full((32, 48, channels), 40 * number, np.uint8)
        picture[:8, :8, :3] = (200, 0, 0)
        pictures.append(picture)
    return pictures


def write(path: Path, pictures: list[np.ndarray]) -> None:
    with PictureWriter(path) as writer:
        for picture in pictures:
            writer.write(picture)


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animation_holds_every_frame_for_its_time_and_repeats(tmp_path: Path, name: str):
    write(tmp_path / name, frames(4))
    with Image.open(tmp_path / name) as animation:
        assert (animation.n_frames, animation.size, animation.info["loop"]) == (4, (48, 32), 0)
        for number in range(4):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == 40
            assert abs(int(np.asarray(animation.convert("RGB"))[-1, -1, 0]) - 40 * number) < 12
    assert b"Synthetic" in (tmp_path / name).read_bytes()


def test_a_folder_gets_a_picture_for_every_frame(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        write(tmp_path / name, frames(3, channels=4))
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [f"0000{i}.png" for i in range(3)]
        with Image.open(tmp_path / name / "00002.png") as picture:
            assert np.array_equal(np.asarray(picture), frames(3, channels=4)[2])
            assert "Synthetic" in picture.info["Comment"]
    with pytest.raises(UserError, match="not an empty folder"):
        PictureWriter(tmp_path / "new")


@pytest.mark.parametrize("name", ["a.png", "a.JPG"])
def test_a_still_is_the_last_frame(tmp_path: Path, name: str):
    write(tmp_path / name, frames(3))
    picture = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
    assert np.abs(picture[16:] - 80).max() < 4 and b"Synthetic" in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.gif", "folder", "a.png"])
def test_an_error_leaves_nothing(tmp_path: Path, name: str):
    with pytest.raises(RuntimeError), PictureWriter(tmp_path / name) as writer:
        writer.write(frames(1)[0])
        raise RuntimeError
    with pytest.raises(UserError, match="no frames"):
        write(tmp_path / name, [])
    assert list(tmp_path.iterdir()) == []


def test_an_animation_that_becomes_too_long_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("modules.media.picture_writer.LONGEST_ANIMATION", 0.08)
    with pytest.raises(UserError, match="--seconds"):
        write(tmp_path / "a.webp", frames(3))
    assert list(tmp_path.iterdir()) == []


def test_the_ending_chooses_the_writer(tmp_path: Path):
    assert isinstance(open_output(tmp_path / "a.webp", (48, 32)), PictureWriter)
    assert isinstance(open_output(tmp_path / "a", (48, 32)), PictureWriter)
    assert isinstance(open_output(tmp_path / "a.mp4", (48, 32)), VideoWriter)
