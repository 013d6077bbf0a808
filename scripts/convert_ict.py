"""The published folder of the ICT face model (MIT licence) -> one file that `load_face_model("ict")` reads.

python -m scripts.convert_ict ICT-FaceKit/FaceXModel checkpoints/assets/ict_facekit.npz
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from modules.system.errors import UserError, run_command
from modules.system.files import named_file
from modules.system.progress import with_progress

NEUTRAL = "generic_neutral_mesh.obj"
EXPRESSION_FILE = "vertex_indices.json"  # key "expressions": their order
IDENTITIES = 100
# First vertex and first polygon of each part of the mesh, as published with the model.
# fmt: off
VERTEX_GROUPS = {
    "face": (0, 0), "head_neck": (9409, 9230), "mouth_socket": (11248, 11144),
    "eye_socket_left": (13294, 13226), "eye_socket_right": (13678, 13630), "gums_tongue": (14062, 14034),
    "teeth": (17039, 17006), "eyeball_left": (21451, 21496), "eyeball_right": (23021, 23094),
    "lacrimal_left": (24591, 24692), "lacrimal_right": (24795, 24855), "eye_blend_left": (24999, 25018),
    "eye_blend_right": (25023, 25033), "eye_occlusion_left": (25047, 25048),
    "eye_occlusion_right": (25199, 25176), "eyelashes_left": (25351, 25304),
    "eyelashes_right": (26035, 25844)}
# fmt: on
SURFACES = {  # vertices from, to, polygons from, to
    "narrow_face": (0, 6706, 0, 6560),
    "sclera_left": (21451, 22221, 21496, 22296),
    "iris_left": (22221, 23021, 22296, 23094),
    "sclera_right": (23021, 23791, 23094, 23894),
    "iris_right": (23791, 24591, 23894, 24692),
    "teeth_upper": (17039, 19247, 17006, 19250),
    "teeth_lower": (19247, 21451, 19250, 21496),
}
# fmt: off
LANDMARK_VERTICES = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268,
    493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269,
    3360, 1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275,
    6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966)
# fmt: on


def convert(folder: Path, output: Path) -> None:
    """Read `folder` and write `output`.

    Raises:
        UserError: a file is missing, cannot be read, or has another number of vertices.
    """
    neutral = read_vertices(folder / NEUTRAL)
    polygons = read_polygons(folder / NEUTRAL)
    triangles, of_polygon = triangulate(neutral, polygons)
    names = _expression_names(folder / EXPRESSION_FILE)
    modes = [*(f"identity{i:03d}" for i in range(IDENTITIES)), *names]
    basis = np.stack(
        [_difference(folder / f"{mode}.obj", neutral) for mode in with_progress(modes, len(modes), "mode")]
    )
    basis = basis.astype(np.float16)  # [M, V, 3] cm
    with named_file(output) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            v=neutral.astype(np.float32),
            tri=triangles.astype(np.int32),
            tri_poly=of_polygon.astype(np.int32),
            id_basis=basis[:IDENTITIES],
            exp_basis=basis[IDENTITIES:],
            exp_names=np.array(names),
            lm68=np.array(LANDMARK_VERTICES, dtype=np.int32),
            **_tables(len(neutral), len(polygons), of_polygon),
        )


def read_vertices(path: Path) -> np.ndarray:
    """Vertex positions of an .obj file; [V, 3] float64."""
    rows = [line.split()[1:4] for line in _lines(path) if line.startswith("v ")]
    if not rows:
        raise UserError(f"{path} holds no vertices; use the .obj files of the model's folder")
    return np.array(rows, dtype=np.float64)


def read_polygons(path: Path) -> list[list[int]]:
    """0-based vertex indices of each polygon of an .obj file."""
    return [
        [int(corner.split("/")[0]) - 1 for corner in line.split()[1:]] for line in _lines(path) if line.startswith("f ")
    ]


def triangulate(vertices: np.ndarray, polygons: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Split quads along their shorter diagonal, keep triangles.

    Args:
        vertices: [V, 3].
        polygons: of 3 or 4 corners each.
    Returns:
        Triangles [F, 3] in the order and orientation of the polygons, and the polygon of each [F].
    """
    triangles, owners = [], []
    for number, corners in enumerate(polygons):
        if len(corners) not in (3, 4):
            raise UserError(f"polygon {number} has {len(corners)} corners; only 3 and 4 are known")
        parts = [corners]
        if len(corners) == 4:
            a, b, c, d = corners
            first, second = (np.linalg.norm(vertices[p] - vertices[q]) for p, q in ((a, c), (b, d)))
            parts = [[a, b, c], [a, c, d]] if first <= second else [[a, b, d], [b, c, d]]
        triangles += parts
        owners += [number] * len(parts)
    return np.array(triangles), np.array(owners)


def _tables(vertices: int, polygons: int, of_polygon: np.ndarray) -> dict[str, np.ndarray]:
    """Groups and parts as arrays: names, ranges (end exclusive), and the group of each vertex and triangle."""
    starts = np.array(list(VERTEX_GROUPS.values()))
    ends = np.concatenate([starts[1:], [[vertices, polygons]]])
    parts = np.array(list(SURFACES.values()))
    groups = np.arange(len(starts))
    return {
        "group_names": np.array(list(VERTEX_GROUPS)),
        "group_vrange": np.stack([starts[:, 0], ends[:, 0]], 1),
        "group_prange": np.stack([starts[:, 1], ends[:, 1]], 1),
        "sub_names": np.array(list(SURFACES)),
        "sub_vrange": parts[:, :2],
        "sub_prange": parts[:, 2:],
        "v_group": np.repeat(groups, ends[:, 0] - starts[:, 0]).astype(np.uint8),
        "tri_group": (np.searchsorted(starts[:, 1], of_polygon, side="right") - 1).astype(np.uint8),
    }


def _difference(path: Path, neutral: np.ndarray) -> np.ndarray:
    vertices = read_vertices(path)
    if vertices.shape != neutral.shape:
        raise UserError(f"{path} has {len(vertices)} vertices, {NEUTRAL} has {len(neutral)}")
    return vertices - neutral


def _expression_names(path: Path) -> list[str]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["expressions"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} does not list the expressions ({error}); use the published FaceXModel folder"
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read; give the FaceXModel folder of ICT-FaceKit") from error


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code is 2 if something is wrong with the input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="FaceXModel folder of ICT-FaceKit")
    parser.add_argument("output", type=Path, help="file to write, ict_facekit.npz in the assets folder")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.output.suffix.lower() != ".npz":
            raise UserError(f"{options.output}: the model is written as .npz; give a name that ends so")
        convert(options.folder, options.output)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
