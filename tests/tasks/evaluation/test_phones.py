from pathlib import Path

import pytest
import torch

from modules.system.errors import UserError
from tasks.evaluation.phones import phones_path, read_phones


def write(folder: Path, text: str) -> Path:
    clip = folder / "anna.mp4"
    phones_path(clip).write_text(text, encoding="utf-8")
    return clip


def test_sounds_of_several_phone_sets_are_told_apart(tmp_path: Path) -> None:
    lines = [
        "pau\t0\t0.2",
        "P\t0.2\t0.28",
        "AA1\t0.28\t0.4",
        "bʲ\t0.4\t0.48",
        "em\t0.48\t0.6",
        "sil\t0.6\t1.0",
        "f\t1\t1.2",
    ]
    phones = read_phones(write(tmp_path, "\n".join(lines) + "\n"))
    assert phones is not None
    torch.testing.assert_close(phones.bilabials, torch.tensor([[5.0, 7.0], [10.0, 12.0], [12.0, 15.0]]))
    torch.testing.assert_close(phones.others, torch.tensor([[7.0, 10.0], [25.0, 30.0]]))


def test_moved_sounds_that_leave_the_clip_do_not_count(tmp_path: Path) -> None:
    phones = read_phones(write(tmp_path, "p\t0.04\t0.12\nm\t0.4\t0.48\nb\t0.9\t1.0\n"))
    assert phones is not None
    assert phones.moved(-2, 20).bilabials.tolist() == [[8.0, 10.0]]
    assert phones.moved(0, 25).others.shape == (0, 2)


@pytest.mark.parametrize("line", ["p 0 1", "p\t1\t0.5", "p\t0\tx", "p\t-1\t2", "p\t0\t1\t2", "p\tnan\t1"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"line 2"):
        read_phones(write(tmp_path, f"p\t0\t1\n{line}\n"))


def test_a_clip_without_such_a_file_has_none(tmp_path: Path) -> None:
    assert read_phones(tmp_path / "anna.mp4") is None
