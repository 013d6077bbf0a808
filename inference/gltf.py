"""A head that moves as glTF (.glb): the face model's mesh of the person, a morph target for each of its modes.

Blender and engines open it; docs/live.md says what is in it.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inference.motion import Motion
from inference.portrait import Portrait
from inference.rig import RigPainter
from inference.track import apply_blinks
from modules.face3d.coefficients import EXPRESSION_SIZE, FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel
from modules.geometry.rotation import rotation_matrix
from modules.media.pixels import to_pixels
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import PROVENANCE
from modules.procedural.head import EXPRESSIONS
from modules.system.files import named_file

_METRES = 0.1  # of a decimetre
_FLOAT, _INDEX = 5126, 5125  # component types of the format
_VERTICES, _INDICES = 34962, 34963  # what a piece of the buffer is for
_CLAMP = 33071  # colours beyond the photo's border are those of the border
_JSON, _BINARY = b"JSON", b"BIN\0"
_LIDS = ("blink_left", "blink_right")


class _Buffer:
    """The binary part, and what describes its pieces."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), [], []

    def view(self, piece: bytes, target: int | None = None) -> int:
        """Append bytes at a multiple of four; the number of their view."""
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(piece)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += piece
        return len(self.views) - 1

    def numbers(self, values: np.ndarray, target: int | None = None) -> int:
        """Append [N] or [N, 2 to 4] float32, or [N] uint32; the number of their accessor."""
        rows = values.reshape(len(values), -1)
        self.accessors.append(
            {
                "bufferView": self.view(np.ascontiguousarray(values).tobytes(), target),
                "componentType": _FLOAT if values.dtype == np.float32 else _INDEX,
                "count": len(values),
                "type": ("SCALAR", "VEC2", "VEC3", "VEC4")[rows.shape[1] - 1],
                "min": rows.min(axis=0).tolist(),
                "max": rows.max(axis=0).tolist(),
            }
        )
        return len(self.accessors) - 1


def write_mesh(path: Path, model: MorphableModel, painter: RigPainter | Portrait, motion: Motion) -> None:
    """Write the head of a photo or person as it moves.

    Args:
        path: a .glb.
        model: the face model, on the CPU, of photo and motion.
    Raises:
        UserError: the file cannot be written.
    """
    data = head_glb(model, painter.face, to_pixels(painter.picture)[0], motion)
    with named_file(path) as part:
        part.write_bytes(data)


def head_glb(model: MorphableModel, face: FaceCoefficients, picture: np.ndarray, motion: Motion) -> bytes:
    """The file of `write_mesh`.

    Args:
        face: fitted to the photo, one row.
        picture: the photo's square crop, uint8 [S, S, 3], which becomes the texture.
    """
    buffer = _Buffer()
    with torch.inference_mode():
        weights = _weights(motion, model)
        modes = [mode for mode, name in enumerate(mode_names(model)) if name or bool(weights[:, mode].any())]
        mesh = _mesh(buffer, model, face, modes)
        animation = _animation(buffer, motion, weights[:, modes])
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=92, comment=PROVENANCE.encode())
    content = {
        "asset": {"version": "2.0", "generator": "Real3D-Portrait", "copyright": PROVENANCE},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "head", "mesh": 0}],
        "meshes": [mesh],
        "materials": [
            {
                "name": "photo",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0,
                    "roughnessFactor": 0.9,
                },
                "doubleSided": True,
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": _CLAMP, "wrapT": _CLAMP}],
        "images": [{"bufferView": buffer.view(file.getvalue()), "mimeType": "image/jpeg"}],
        "animations": [animation],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _packed(content, bytes(buffer.data))


def mode_names(model: MorphableModel) -> list[str]:
    """The names of the 64 modes; "" where one has none."""
    names = list(EXPRESSIONS if model.name == "procedural" else model.expression_names)
    return (names + [""] * EXPRESSION_SIZE)[:EXPRESSION_SIZE]


def _weights(motion: Motion, model: MorphableModel) -> Tensor:
    """Expression [T, 64] with the blinks in it."""
    expression, closing = apply_blinks(motion, model)
    if model.name == "procedural":  # whose pictures close the lids in their own way
        expression = expression.clone()
        lids = [EXPRESSIONS.index(name) for name in _LIDS]
        expression[:, lids] = torch.maximum(expression[:, lids], closing[:, None])
    return expression.float()


def _mesh(buffer: _Buffer, model: MorphableModel, face: FaceCoefficients, modes: list[int]) -> dict[str, object]:
    neutral = model.vertices(face.identity, torch.zeros(1, EXPRESSION_SIZE))[0]
    in_photo = model.vertices(face.identity, face.expression)
    texture = project(pose_points(in_photo, face.euler, face.translation))[0]
    attributes = {
        "POSITION": buffer.numbers((neutral * _METRES).float().numpy(), _VERTICES),
        "NORMAL": buffer.numbers(_normals(neutral, model.triangles), _VERTICES),
        "TEXCOORD_0": buffer.numbers(texture.float().numpy(), _VERTICES),
    }
    targets = [
        {"POSITION": buffer.numbers((model.expression_basis[..., mode] * _METRES).numpy(), _VERTICES)} for mode in modes
    ]
    indices = buffer.numbers(model.triangles.flatten().numpy().astype(np.uint32), _INDICES)
    names = mode_names(model)
    return {
        "name": "head",
        "primitives": [{"attributes": attributes, "indices": indices, "material": 0, "targets": targets}],
        "weights": [0.0] * len(modes),
        "extras": {"targetNames": [names[mode] or f"mode_{mode}" for mode in modes]},
    }


def _animation(buffer: _Buffer, motion: Motion, weights: Tensor) -> dict[str, object]:
    """Keys of weights, turn and place; a pose that is the driver's own counts from its first place."""
    times = buffer.numbers(np.arange(len(motion), dtype=np.float32) / FRAME_RATE)
    start = 0 if motion.relative else motion.translation[:1]
    values = {
        "weights": weights.flatten().numpy(),
        "rotation": _quaternions(rotation_matrix(motion.euler.double())),
        "translation": ((motion.translation - start) * _METRES).float().numpy(),
    }
    samplers = [{"input": times, "output": buffer.numbers(keys), "interpolation": "LINEAR"} for keys in values.values()]
    channels = [{"sampler": number, "target": {"node": 0, "path": path}} for number, path in enumerate(values)]
    return {"name": "motion", "channels": channels, "samplers": samplers}


def _normals(vertices: Tensor, triangles: Tensor) -> np.ndarray:
    """Unit normals [V, 3]: the mean of the triangles around, by their areas."""
    a, b, c = vertices[triangles].unbind(1)
    normals = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        normals.index_add_(0, corner, torch.linalg.cross(b - a, c - a))
    unit = torch.nn.functional.normalize(normals, dim=1)
    unit[unit.norm(dim=1) < 0.5] = torch.tensor([0.0, 0.0, 1.0])  # of no triangle
    return unit.float().numpy()


def _quaternions(rotations: Tensor) -> np.ndarray:
    """Rotations [T, 3, 3] of a head, by far less than half a turn -> [T, 4] float32: x, y, z, w."""
    trace = rotations.diagonal(dim1=-2, dim2=-1).sum(-1)
    w = (1 + trace).clamp(min=1e-9).sqrt() / 2
    axis = torch.stack(
        [
            rotations[:, 2, 1] - rotations[:, 1, 2],
            rotations[:, 0, 2] - rotations[:, 2, 0],
            rotations[:, 1, 0] - rotations[:, 0, 1],
        ],
        dim=1,
    )
    return torch.cat([axis / (4 * w[:, None]), w[:, None]], dim=1).float().numpy()


def _packed(content: dict[str, object], binary: bytes) -> bytes:
    """The two parts in the container of .glb files."""
    text = json.dumps(content, separators=(",", ":")).encode()
    chunks = ((_JSON, text + b" " * (-len(text) % 4)), (_BINARY, binary + bytes(-len(binary) % 4)))
    body = b"".join(struct.pack("<I4s", len(data), kind) + data for kind, data in chunks)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
