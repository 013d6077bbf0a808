from pathlib import Path

import pytest

from modules.media.container import open_media
from modules.system.errors import UserError
from tests.videos import counting_frames, write_video


def test_a_file_opens_whatever_its_ending(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", counting_frames(2)).rename(tmp_path / "a.txt")
    with open_media(path) as container:
        assert len(container.streams.video) == 1


@pytest.mark.parametrize(
    "content, words",
    [(None, "there is no file"), ("folder", "is a folder"), (b"", "is empty"), (b"plain text", "cannot be read")],
)
def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, content, words: str):
    path = tmp_path / "clip.mp4"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        open_media(path)
    assert "clip.mp4" in str(caught.value) and "\n" not in str(caught.value)
