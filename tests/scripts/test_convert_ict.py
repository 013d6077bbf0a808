"""The converter of the ICT model, on a folder of a few vertices."""

import json

import numpy as np
import pytest

from scripts import convert_ict
from scripts.convert_ict import main, triangulate

VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0], [0, 2, 0]])


def write_obj(path, vertices):
    lines = [f"v {x} {y} {z}" for x, y, z in vertices]
    path.write_text("\n".join([*lines, "vt 0 0", "f 1/1/1 2/1/1 3/1/1 4/1/1", "f 4/1 3/1 5/1"]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_ict, "IDENTITIES", 2)
    monkeypatch.setattr(convert_ict, "VERTEX_GROUPS", {"face": (0, 0), "neck": (4, 1)})
    source = tmp_path / "FaceXModel"
    source.mkdir()
    write_obj(source / convert_ict.NEUTRAL, VERTICES)
    for k, name in enumerate(("identity000", "identity001", "jawOpen")):
        write_obj(source / f"{name}.obj", VERTICES + [0, k + 1, 0])
    (source / convert_ict.EXPRESSION_FILE).write_text(json.dumps({"expressions": ["jawOpen"]}))
    return source


def test_modes_are_differences_from_the_neutral_face(folder, tmp_path):
    assert main([str(folder), str(tmp_path / "new" / "ict.npz")]) == 0
    with np.load(tmp_path / "new" / "ict.npz") as arrays:
        assert arrays["id_basis"].shape == (2, 5, 3) and arrays["exp_names"].tolist() == ["jawOpen"]
        assert (arrays["id_basis"][1] == [0, 2, 0]).all() and (arrays["exp_basis"][0] == [0, 3, 0]).all()
        assert arrays["tri_poly"].tolist() == [0, 0, 1] and arrays["tri_group"].tolist() == [0, 0, 1]
        assert arrays["group_vrange"].tolist() == [[0, 4], [4, 5]]


def test_quads_are_split_along_the_shorter_diagonal_and_keep_their_orientation():
    triangles, owners = triangulate(VERTICES, [[0, 1, 2, 3]])
    assert owners.tolist() == [0, 0]
    assert sorted(map(sorted, triangles.tolist())) == [[0, 1, 3], [1, 2, 3]]
    a, b, c = (VERTICES[triangles[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_a_missing_shape_ends_with_its_name(folder, tmp_path, capsys):
    (folder / "identity001.obj").unlink()
    assert main([str(folder), str(tmp_path / "ict.npz")]) == 2
    assert "identity001.obj" in capsys.readouterr().err
    assert not (tmp_path / "ict.npz").exists()


def test_a_shape_of_another_mesh_is_refused(folder, tmp_path, capsys):
    write_obj(folder / "jawOpen.obj", VERTICES[:4])
    assert main([str(folder), str(tmp_path / "ict.npz")]) == 2
    assert "jawOpen.obj has 4 vertices" in capsys.readouterr().err
