import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modules.system.errors import UserError
from modules.system.files import keep_inputs, named_file, same_file, whole_file


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest):
    former = os.umask(request.param)
    yield request.param
    os.umask(former)


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


def test_a_file_has_the_permissions_of_the_umask_whatever_its_writer_does(tmp_path: Path, umask: int):
    with whole_file(tmp_path / "folder" / "a.safetensors") as part:
        save_file({"a": torch.zeros(2)}, part)
    with whole_file(tmp_path / "b.txt") as part:
        part.write_text("b")
    for path, usual in ((tmp_path / "folder" / "a.safetensors", 0o666), (tmp_path / "b.txt", 0o666)):
        assert stat.S_IMODE(path.stat().st_mode) == usual & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_one_file_is_known_by_any_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, other = tmp_path / "speech.mp4", tmp_path / "other.mp4"
    path.write_text("speech")
    other.write_text("speech")
    (tmp_path / "link.mp4").symlink_to(path)
    (tmp_path / "hard.mp4").hardlink_to(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = [
        "speech.mp4",
        "link.mp4",
        "hard.mp4",
        f"folder/{os.pardir}/speech.mp4",
        "folder link/speech.mp4",
        "Speech.MP4",
    ]
    assert [same_file(path, Path(name)) for name in names] == [True] * len(names)
    assert not same_file(path, other) and not same_file(path, tmp_path / "new.mp4")
    assert same_file(tmp_path / "new.mp4", tmp_path / "folder link" / "new.mp4")


def test_an_output_over_an_input_or_over_another_output_is_refused_by_both_names(tmp_path: Path):
    speech, new = tmp_path / "speech.mp4", tmp_path / "new.mp4"
    speech.write_text("speech")
    with pytest.raises(UserError, match=r"--output .*speech.mp4 would replace --audio .*speech.mp4"):
        keep_inputs({"--output": speech}, {"--source": None, "--audio": speech})
    with pytest.raises(UserError, match=r"--json .*new.mp4 would replace --output .*new.mp4"):
        keep_inputs({"--output": new, "--json": new}, {"--audio": speech})
    with pytest.raises(UserError, match="--output .* would replace the file"):
        keep_inputs({"--output": tmp_path}, {"the file": speech})
    keep_inputs({"--output": new, "--json": None}, {"--audio": speech, "--sound": speech})
