"""The glTF file is read back by a reader of its own: every frame's vertices are the face model's."""

import io
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from inference.gltf import head_glb, write_mesh
from inference.motion import Motion
from modules.face3d.coefficients import pose_points, project
from modules.media.pixels import to_pixels
from modules.procedural.head import EXPRESSIONS, expression_index
from modules.system.errors import UserError


@pytest.fixture
def motion(generator) -> Motion:
    pose = torch.randn(5, 6, generator=generator)
    blink = torch.tensor([0, 0.3, 1, 0.3, 0])[:, None]
    expression = 0.5 * torch.rand(5, 64, generator=generator)
    return Motion(expression, 0.3 * pose[:, :3], pose[:, 3:], blink, "procedural", relative=True)


class Glb:
    """What a file holds."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.content = json.loads(data[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0" and 28 + size + binary == len(data) and size % 4 == binary % 4 == 0
        self.binary = data[28 + size :]

    def view(self, number: int) -> bytes:
        view = self.content["bufferViews"][number]
        return self.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def numbers(self, number: int) -> np.ndarray:
        accessor = self.content["accessors"][number]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        kind = {5126: np.float32, 5125: np.uint32}[accessor["componentType"]]
        values = np.frombuffer(self.view(accessor["bufferView"]), kind).reshape(-1, width)
        assert len(values) == accessor["count"]
        assert np.array_equal(values.min(axis=0), np.float32(accessor["min"])) or kind == np.uint32
        return values

    def frame(self, number: int) -> np.ndarray:
        """Vertices [V, 3] at a key, as a viewer of the format poses them."""
        [animation], [node] = self.content["animations"], self.content["nodes"]
        keys = {
            channel["target"]["path"]: self.numbers(animation["samplers"][channel["sampler"]]["output"])
            for channel in animation["channels"]
        }
        primitive = self.content["meshes"][node["mesh"]]["primitives"][0]
        targets = [self.numbers(target["POSITION"]) for target in primitive["targets"]]
        weights = keys["weights"].reshape(-1, len(targets))[number]
        points = self.numbers(primitive["attributes"]["POSITION"]).astype(float)
        points = points + sum(weight * target for weight, target in zip(weights, targets))
        x, y, z, w = keys["rotation"][number].astype(float)
        turned = points + 2 * np.cross([x, y, z], np.cross([x, y, z], points) + w * points)
        return turned + keys["translation"][number]


def test_every_frame_is_the_face_model_s_in_metres(pipeline, portrait, motion):
    glb = Glb(head_glb(pipeline.face_model, portrait.face, to_pixels(portrait.picture)[0], motion))
    expression = motion.expression.clone()
    for lid in ("blink_left", "blink_right"):
        expression[:, expression_index(lid)] = torch.maximum(expression[:, expression_index(lid)], motion.blink[:, 0])
    points = pipeline.face_model.vertices(portrait.identity, expression)
    expected = 0.1 * pose_points(points, motion.euler, motion.translation).numpy()
    for number in range(5):
        assert np.abs(glb.frame(number) - expected[number]).max() < 1e-6
    [sampler, *_] = glb.content["animations"][0]["samplers"]
    assert np.allclose(glb.numbers(sampler["input"])[:, 0], np.arange(5) / 25)


def test_targets_have_the_names_of_the_modes_and_those_without_use_or_name_are_left_out(pipeline, portrait, motion):
    quiet = replace(motion, expression=torch.zeros(5, 64))
    quiet.expression[:, 60] = 0.1
    glb = Glb(head_glb(pipeline.face_model, portrait.face, to_pixels(portrait.picture)[0], quiet))
    mesh = glb.content["meshes"][0]
    assert mesh["extras"]["targetNames"] == [*EXPRESSIONS, "mode_60"]
    assert len(mesh["primitives"][0]["targets"]) == len(mesh["weights"]) == len(EXPRESSIONS) + 1


def test_the_photo_lies_on_the_mesh_where_the_face_is_and_normals_point_out(pipeline, portrait, motion):
    picture = to_pixels(portrait.picture)[0]
    glb = Glb(head_glb(pipeline.face_model, portrait.face, picture, motion))
    attributes = glb.content["meshes"][0]["primitives"][0]["attributes"]
    uv, points = glb.numbers(attributes["TEXCOORD_0"]), glb.numbers(attributes["POSITION"])
    assert np.allclose(uv, project(pose_points(pipeline.face_model.vertices(portrait.identity, portrait.expression),
                       portrait.euler, portrait.translation))[0], atol=1e-6)  # fmt: skip
    texture = np.asarray(Image.open(io.BytesIO(glb.view(glb.content["images"][0]["bufferView"]))))
    assert texture.shape == picture.shape and np.abs(texture.astype(int) - picture).mean() < 6
    normals = glb.numbers(attributes["NORMAL"])
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    nose = np.argmax(points[:, 2])
    assert normals[nose, 2] > 0.5
    indices = glb.numbers(glb.content["meshes"][0]["primitives"][0]["indices"])
    assert indices.max() < len(points) and len(indices) % 3 == 0
    assert "synthetic" in glb.content["asset"]["copyright"].lower()


def test_the_driver_s_own_pose_counts_from_its_first_place(pipeline, portrait, motion):
    own = replace(motion, relative=False)
    glb = Glb(head_glb(pipeline.face_model, portrait.face, to_pixels(portrait.picture)[0], own))
    sampler = glb.content["animations"][0]["samplers"][2]
    assert np.abs(glb.numbers(sampler["output"])[0]).max() == 0


def test_it_is_written_whole_or_not_at_all(pipeline, portrait, motion, tmp_path):
    write_mesh(tmp_path / "talk.glb", pipeline.face_model, portrait, motion)
    assert len(Glb((tmp_path / "talk.glb").read_bytes()).frame(0)) > 1000
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_mesh(tmp_path / "file" / "talk.glb", pipeline.face_model, portrait, motion)
