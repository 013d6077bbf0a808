"""The plain mark is found in whatever this program writes, and nowhere else."""

import numpy as np
import pytest
import torch
from PIL import Image

from inference.gltf import write_mesh
from inference.marks import read_mark
from inference.motion import Motion, still_pose
from modules.media.picture_writer import open_output
from modules.media.video_writer import PROVENANCE
from modules.system.errors import UserError


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mov", "a.gif", "a.webp", "a.png", "a.jpg", "a"])
def test_it_is_in_all_that_is_written(tmp_path, name):
    alpha = name in ("a.webm", "a.mov")
    with open_output(tmp_path / name, (64, 48), alpha) as output:
        for shade in (0, 100):
            output.write(np.full((48, 64, 4 if alpha else 3), shade, np.uint8))
    assert read_mark(tmp_path / name / "00000.png" if name == "a" else tmp_path / name) == PROVENANCE


def test_a_mesh_has_it(tmp_path, pipeline, portrait):
    motion = Motion(torch.zeros(2, 64), *still_pose(2), torch.zeros(2, 1), "procedural", relative=True)
    write_mesh(tmp_path / "a.glb", pipeline.face_model, portrait, motion)
    assert read_mark(tmp_path / "a.glb") == PROVENANCE


def test_what_others_made_has_none(tmp_path, clip, speech):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.gif", comment=b"made with love")
    (tmp_path / "a.glb").write_bytes(b"glTF" + bytes([2, 0, 0, 0, 32, 0, 0, 0, 4, 0, 0, 0]) + b"JSON" + b"[[[[")
    for path in (tmp_path / "a.png", tmp_path / "a.gif", tmp_path / "a.glb", speech):
        assert read_mark(path) is None


def test_a_mark_must_be_whole_enough_to_be_one(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.gif", comment=b"not made with Real3D-Portrait")
    assert read_mark(tmp_path / "a.gif") is None


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "cannot be read"),
        (b"", "no picture, video or mesh"),
        (b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n", "no picture, video or mesh"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "picture"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "no picture, video or mesh"),
    ],
)
def test_what_is_no_media_is_one_line(tmp_path, content, words):
    path = tmp_path / "a.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_mark(path)
    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        read_mark(tmp_path)
