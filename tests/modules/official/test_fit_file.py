import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch

from modules.official.fit_file import read_official_fit
from modules.system.errors import UserError


def fitted(frames: int = 6, rows: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = {"id": (rows, 80), "exp": (frames, 64), "euler": (frames, 3), "trans": (frames, 3)}
    return {name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def write(path, content) -> None:
    np.save(path, content, allow_pickle=True)


@pytest.mark.parametrize("rows", [1, 6])
def test_the_four_arrays_are_read(tmp_path, rows):
    content = fitted(rows=rows)
    write(tmp_path / "ä_coeff_fit_mp.npy", content)
    face = read_official_fit(tmp_path / "ä_coeff_fit_mp.npy")
    for theirs, ours in (("id", "identity"), ("exp", "expression"), ("euler", "euler"), ("trans", "translation")):
        assert torch.equal(getattr(face, ours), torch.from_numpy(content[theirs]))


@pytest.mark.parametrize("array", [np.float64, ">f4", "i4"])
def test_numbers_of_any_kind_and_order_are_read(tmp_path, array):
    content = fitted()
    content["exp"] = np.asfortranarray(np.round(content["exp"] * 4).astype(array))
    write(tmp_path / "a.npy", content)
    expected = torch.from_numpy(np.ascontiguousarray(content["exp"]).astype(np.float32))
    assert torch.equal(read_official_fit(tmp_path / "a.npy").expression, expected)


def test_names_of_old_numpy_versions_are_known(tmp_path):
    write(tmp_path / "a.npy", fitted())
    new, old = b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"
    data = (tmp_path / "a.npy").read_bytes()
    assert data.count(new) == 1
    start = data.index(b"\x80\x04\x95") + 3  # the frame of protocol 4 states its length
    length = struct.unpack("<Q", data[start : start + 8])[0]
    data = data[:start] + struct.pack("<Q", length - 1) + data[start + 8 :]
    (tmp_path / "old.npy").write_bytes(data.replace(new, old))
    assert torch.equal(read_official_fit(tmp_path / "old.npy").euler, read_official_fit(tmp_path / "a.npy").euler)


class Attack:
    def __init__(self, victim: str, kind: str) -> None:
        self.victim, self.kind = victim, kind

    def __reduce__(self):
        return (os.mkdir, (self.victim,)) if self.kind == "call" else (eval, (f"open({self.victim!r}, 'w')",))


@pytest.mark.parametrize("kind", ["call", "eval"])
@pytest.mark.parametrize("key", ["exp", "surprise"])
def test_code_in_a_file_is_not_executed(tmp_path, kind, key):
    victim = tmp_path / "executed"
    write(tmp_path / "evil.npy", fitted() | {key: Attack(str(victim), kind)})
    with pytest.raises(UserError, match="evil.npy.*which is no array"):
        read_official_fit(tmp_path / "evil.npy")
    assert not victim.exists()


def test_a_file_cannot_change_the_reader(tmp_path):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": ()})
    change = b"\x80\x04cnumpy\ndtype\nN}\x8c\x08__init__Ns\x86b0N."  # sets the attribute __init__ of a name
    (tmp_path / "change.npy").write_bytes(out.getvalue() + change)
    with pytest.raises(UserError, match=r"change\.npy"):
        read_official_fit(tmp_path / "change.npy")
    write(tmp_path / "good.npy", fitted())
    assert len(read_official_fit(tmp_path / "good.npy")) == 6


def bad(case: str) -> object:
    content = fitted()
    return {
        "a key is missing": {key: value for key, value in content.items() if key != "euler"},
        "another width": content | {"exp": np.zeros((6, 63), np.float32)},
        "other lengths": content | {"trans": np.zeros((5, 3), np.float32)},
        "words": content | {"exp": np.array(["a", "b"])},
        "not finite": content | {"euler": np.full((6, 3), np.nan)},
        "a list": [content["exp"]],
        "plain numbers": content["exp"],
    }[case]


@pytest.mark.parametrize(
    "case, words",
    [
        ("a key is missing", "no array euler; it holds id, exp, trans"),
        ("another width", r"\(6, 63\)"),
        ("other lengths", "5 rows"),
        ("words", "no plain number"),
        ("not finite", "euler holds a number"),
        ("a list", "instead of a dictionary"),
        ("plain numbers", "instead of a dictionary"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(tmp_path, case, words):
    write(tmp_path / "b.npy", bad(case))
    with pytest.raises(UserError, match=words) as refusal:
        read_official_fit(tmp_path / "b.npy")
    assert "b.npy" in str(refusal.value) and "\n" not in str(refusal.value)


def test_every_truncation_is_refused(tmp_path):
    write(tmp_path / "a.npy", fitted())
    data = (tmp_path / "a.npy").read_bytes()
    for size in (*range(0, 700, 13), len(data) // 2, len(data) - 1):
        (tmp_path / "cut.npy").write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut\.npy"):
            read_official_fit(tmp_path / "cut.npy")
    with pytest.raises(UserError, match="no file"):
        read_official_fit(tmp_path / "absent.npy")


def test_a_bare_pickle_is_refused(tmp_path):
    (tmp_path / "p.npy").write_bytes(pickle.dumps(fitted()))
    with pytest.raises(UserError, match=r"p\.npy"):
        read_official_fit(tmp_path / "p.npy")
