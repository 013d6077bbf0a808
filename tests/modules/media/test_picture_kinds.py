from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from modules.media.picture_kinds import check_clip, is_picture
from modules.system.errors import UserError
from tests.videos import counting_frames, write_video


def test_pictures_and_animations_are_told_from_clips(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 40 * 48 * 3).reshape(40, 48, 3).astype(np.uint8)
    image = Image.fromarray(ramp)
    for name in ("a.jpg", "a.png", "a.gif", "a.webp", "a.avif"):
        image.save(tmp_path / name)
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.fromarray(ramp[::-1])])
    image.save(tmp_path / "moving.webp", save_all=True, append_images=[Image.fromarray(ramp[::-1])])
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic")
    for path in tmp_path.iterdir():
        assert is_picture(path), path.name
    clip = write_video(tmp_path / "a.mp4", counting_frames(3))
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    for path in (clip, tmp_path / "text.jpg", tmp_path / "absent.jpg", tmp_path):
        assert not is_picture(path)


def test_a_picture_in_the_place_of_a_clip_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "face.jpg")
    with pytest.raises(UserError, match="^face.jpg is a picture or animation; --driving and --pose need a video"):
        check_clip(tmp_path / "face.jpg")
    check_clip(write_video(tmp_path / "a.mp4", counting_frames(3)))
