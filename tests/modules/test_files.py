from pathlib import Path

import pytest

from modules.files import whole_file


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
