from pathlib import Path

import pytest

from modules.system.errors import UserError
from modules.system.files import named_file, whole_file


def test_a_file_appears_at_the_end_in_a_folder_that_is_made(tmp_path: Path):
    path = tmp_path / "new" / "ä file.txt"
    with whole_file(path) as part:
        part.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_path_of_the_user_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(UserError, match="a.txt cannot be written .*choose another place"),
        named_file(tmp_path / "file" / "a.txt"),
    ):
        pytest.fail("nothing to write to")
