"""Measure where the detector's 478 landmarks lie on the procedural head.

    python -m scripts.calibrate_landmarks          (needs face_landmarker.task among the assets)

People are rendered with closed and with open mouths, detected points are traced back to the mesh, averaged over the
people, made symmetric and written to modules/procedural/landmarks.npz.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from modules.analysis.mediapipe_models import FaceFinder
from modules.face3d.coefficients import FaceCoefficients, camera_points
from modules.face3d.landmark_sets import MOUTH
from modules.face3d.rasterizer import rasterize
from modules.media.pixels import to_pixels
from modules.procedural.clips import named_expression
from modules.procedural.head import ProceduralModel, build_model
from modules.procedural.person import Person, sample_person
from modules.procedural.render import canonical_vertices, posed_vertices, render
from modules.system.errors import UserError, run_command
from modules.system.files import named_file

PICTURE_SIZE = 512
IRISES = slice(468, 478)
OUTPUT = Path(__file__).resolve().parents[1] / "modules" / "procedural" / "landmarks.npz"


def traced_points(model: ProceduralModel, person: Person, face: FaceCoefficients, points: np.ndarray) -> np.ndarray:
    """Where detected points [478, 2] lie on the average head: x, y, z and side of the lips, [478, 4]."""
    vertices = posed_vertices(model, canonical_vertices(model, person, face), face)
    traced = np.zeros((478, 4))
    values = torch.cat([model.mean, model.lip[:, None]], dim=1)
    eyes = model.triangles[model.triangle_group("eyeballs")]
    for rows, triangles in ((slice(0, 468), model.pncc_triangles), (IRISES, eyes)):
        seen = rasterize(camera_points(vertices), triangles, PICTURE_SIZE)
        pixels = np.argwhere(seen.triangle[0].numpy() >= 0)
        nearest = cKDTree(pixels).query(points[rows, ::-1] * PICTURE_SIZE - 0.5)[1]
        row, column = pixels[nearest].T
        corners = triangles[seen.triangle[0, row, column]]
        weights = seen.barycentric[0, row, column]
        traced[rows] = (weights[..., None] * values[corners]).sum(dim=1).numpy()
    return traced


def measure(model: ProceduralModel, people: int, finder: FaceFinder) -> np.ndarray:
    """Median positions of the landmarks on the average head, [478, 4]; those of the mouth come from open mouths."""
    traced = {"closed": [], "open": []}
    for seed in range(people):
        person = sample_person(500_000 + seed)
        person = replace(person, shade={**person.shade, "beard": 0.0, "moustache": 0.0})
        draw = np.random.default_rng(seed)
        for name, jaw in (("closed", 0.0), ("open", 0.45)):
            pose = torch.from_numpy(draw.uniform(-0.12, 0.12, (1, 3))).float()
            face = FaceCoefficients(
                0.7 * person.identity[None], named_expression(1, jaw_open=jaw), pose, torch.tensor([[0.0, 0.1, -3.0]])
            )
            picture = to_pixels(render(model, person, face, PICTURE_SIZE).image)[0]
            faces = finder.find(np.ascontiguousarray(picture))
            if len(faces):
                traced[name].append(traced_points(model, person, face, faces[0]))
    if min(len(positions) for positions in traced.values()) < people // 2:
        raise UserError("the detector found fewer than half of the faces; has the renderer changed?")
    positions = np.median(traced["closed"], axis=0)
    mouth = list(MOUTH)
    positions[mouth] = np.median(traced["open"], axis=0)[mouth]
    return positions


def symmetrised(positions: np.ndarray) -> np.ndarray:
    """Average every landmark with the mirror image of its partner: [478, 4]."""
    result = positions.copy()
    mirror = np.array([-1.0, 1.0, 1.0, 0.3])
    scale = np.array([1.0, 1.0, 1.0, 0.3])
    for rows in (slice(0, 468), IRISES):
        cost = np.linalg.norm((positions[rows] * mirror)[:, None] - (positions[rows] * scale)[None], axis=-1)
        partner = linear_sum_assignment(cost**2)[1]
        result[rows] = (positions[rows] + positions[rows][partner] * [-1, 1, 1, 1]) / 2
    return result


def embedded(model: ProceduralModel, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points of the mesh: vertices [478, 3] and weights [478, 3]."""
    vertices, weights = np.zeros((478, 3), np.int64), np.zeros((478, 3))
    mean, lip = model.mean.double().numpy(), model.lip.numpy()
    eyes, face = model.triangles[model.triangle_group("eyeballs")].numpy(), model.pncc_triangles.numpy()
    for index, (*point, side) in enumerate(positions):
        triangles = eyes if index >= IRISES.start else face
        if index in MOUTH and abs(side) > 0.1:
            sides = lip[triangles]
            triangles = triangles[(sides * np.sign(side) >= 0).all(1)]
        near = np.argsort(np.linalg.norm(mean[triangles].mean(1) - point, axis=1))[:24]
        options = [_closest(mean[triangle], np.array(point)) for triangle in triangles[near]]
        best = int(np.argmin([distance for _, distance in options]))
        vertices[index], weights[index] = triangles[near[best]], options[best][0]
    return vertices, weights


def _closest(corners: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, float]:
    """Barycentric weights of about the nearest point of a triangle, and its distance."""
    edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1)
    u, v = np.linalg.lstsq(edges, point - corners[0], rcond=None)[0]
    weights = np.clip([1 - u - v, u, v], 0, None)
    weights = weights / weights.sum()
    return weights, float(np.linalg.norm(weights @ corners - point))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.people < 1:
            raise UserError(f"--people is {options.people}; give at least 1")
        model = build_model({})
        with FaceFinder() as finder:
            positions = symmetrised(measure(model, options.people, finder))
        vertices, weights = embedded(model, positions)
        with named_file(options.output) as part, part.open("wb") as file:
            np.savez_compressed(file, vertices=vertices.astype(np.uint16), weights=weights.astype(np.float16))
        print(f"{options.output}: 478 landmarks from {options.people} people")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
