from pathlib import Path

import pytest

from data_gen.sources.celebv_hq import CelebVHQConfig
from data_gen.sources.published import check_name, lines_of, videos_by_id
from modules.system.errors import UserError


def test_downloads_are_known_by_the_id_in_their_names(tmp_path):
    names = ["_0tf2n3rlJU.mp4", "A talk, 1080p [M2Ohb0FAaJU].webm", "Old title--3N2xOZ5gDY.mkv", "notes.mp4"]
    for name in names:
        (tmp_path / name).touch()
    found = {key: path.name for key, path in videos_by_id(str(tmp_path)).items()}
    assert found == {"_0tf2n3rlJU": names[0], "M2Ohb0FAaJU": names[1], "-3N2xOZ5gDY": names[2]}


@pytest.mark.parametrize("name", ["/up", "a/b", "", "..", ".hidden", "a b", "a\tb", "a\n"])
def test_a_name_that_would_leave_the_folder_is_refused(name):
    with pytest.raises(UserError, match="no name of a clip"):
        check_name(name, Path("list.json"))


@pytest.mark.parametrize("name", ["M2Ohb0FAaJU_1", "-3N2xOZ5gDY_0", "_0tf2n3rlJU_0", "LucilleRoybal-Allard"])
def test_published_names_are_kept(name):
    assert check_name(name, Path("list.json")) == name


def test_lines_are_words_without_the_empty_ones(tmp_path):
    (tmp_path / "list.txt").write_text("\ufeffa 1  2 \r\n\r\n b\n", encoding="utf-8")
    assert lines_of(tmp_path / "list.txt") == [["a", "1", "2"], ["b"]]
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="it is no text"):
        lines_of(tmp_path / "list.txt")
    with pytest.raises(UserError, match="No such file"):
        lines_of(tmp_path / "none.txt")


def test_an_impossible_margin_is_refused():
    with pytest.raises(ValueError, match="margin 1.5"):
        CelebVHQConfig(annotations="a.json", videos="raw", margin=1.5)
