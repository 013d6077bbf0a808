"""Numbers of the original's morphable model: shape, pose, landmarks, shading, cameras, fitting.

See docs/spec/face3d.md#10.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import scipy.io
import torch
from torch import Tensor

from modules.face3d.bfm import BFM_FILE, EYE_FILES, FIT_PRIOR, MEDIAPIPE_FILE, load_bfm
from modules.face3d.coefficients import FaceCoefficients, camera_points, pose_points, project
from modules.face3d.fitting import (
    PICTURE,
    FitProblem,
    fit_clip,
    fit_photo,
    fit_weights,
    landmark_loss,
)
from modules.face3d.morphable_model import LandmarkEmbedding, MorphableModel
from modules.face3d.shading import vertex_normals
from modules.geometry.camera import pose_camera
from modules.geometry.rotation import euler_angles, rotation_matrix
from modules.official.bfm import LANDMARK_OFFSET
from tests.golden.compare import relative_error
from tests.golden.file import Golden, checks
from tests.golden.reference import harmonic_light, laplacian_loss, polygon_area, vertex_texture

EXACT, FITTED, PIXELS, LOSSES = 1e-5, 1e-4, 1e-3, 1e-4
BASES = {"idBase": ("id_weights", 80, 0.008), "exBase": ("exp_weights", 64, 0.008), "texBase": ("tex_weights", 80, 3.0)}
NOT_COMPARED = {
    "face3d": {
        r"out\.close_(eyes|mouth|mouth_frozen)": "edits of 68 landmarks that nothing here needs: "
        "eyes are closed on the PNCC (blink.npz)"
    }
}


def bfm_arrays(g: Golden) -> dict[str, np.ndarray]:
    """The synthetic model of face3d.npz as the real .mat file has it."""
    points = g.npz["bfm.meanshape"].astype(np.float64).reshape(-1, 3)
    x, y, z = points.T
    powers = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x], axis=1)  # [V, 10]
    arrays = {key: g.npz[f"bfm.{key}"] for key in ("meanshape", "tri", "point_buf", "keypoints")}
    arrays["meantex"] = g.constant("face3d.meantex", (1, points.size), 128, 20).numpy()
    for key, (name, size, std) in BASES.items():
        weights = g.constant(f"face3d.{name}", (10, 3, size), 0, std, "float64").numpy()
        arrays[key] = np.einsum("vj,jck->vck", powers, weights).reshape(-1, size).astype(np.float32)
        g.check(torch.from_numpy(arrays[key]), f"check.{key}", EXACT)
    return arrays


def load_model(g: Golden, offset: int) -> MorphableModel:
    """The synthetic model, written as the published files and read by the real loader."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        scipy.io.savemat(folder / BFM_FILE, g.once(bfm_arrays))
        np.save(folder / MEDIAPIPE_FILE, g.npz["bfm.mp468"].astype(np.int64))
        for file, side in zip(EYE_FILES, ("left", "right")):
            np.save(folder / file, g.npz[f"bfm.{side}_eye_faces"])
        return load_bfm(folder / BFM_FILE, offset)


def exact_model(g: Golden) -> MorphableModel:
    return load_model(g, 0)


def official_model(g: Golden) -> MorphableModel:
    """Its 68 landmarks are one vertex off, as in the original's helper."""
    return load_model(g, LANDMARK_OFFSET)


def coefficients(g: Golden, name: str, batch: int) -> FaceCoefficients:
    spread = {"id": (80, 0.5), "exp": (64, 0.5), "euler": (3, 0.25), "trans": (3, 0.15)}
    return FaceCoefficients(*(g.input(f"{name}.{part}", (batch, size), 0, std) for part, (size, std) in spread.items()))


def faces(g: Golden) -> FaceCoefficients:
    return coefficients(g, "face3d", g.shape("out.rotation")[0])


def picture_points(posed: Tensor) -> Tensor:
    """(u, v) in a picture of 224 pixels, v upwards."""
    fractions = project(posed)
    return PICTURE * torch.stack([fractions[..., 0], 1 - fractions[..., 1]], dim=-1)


@checks("face3d")
def shape_pose_and_projection(g: Golden) -> None:
    face, bfm = faces(g), g.once(exact_model)
    shape = bfm.vertices(face.identity, face.expression)
    posed = pose_points(shape, face.euler, face.translation)
    rotation = rotation_matrix(face.euler)
    g.check(bfm.mean, "out.mean_recentred", EXACT)
    g.check(shape, "out.shape", EXACT)
    g.check(camera_points(posed), "out.camera_vertices", EXACT)
    g.check(picture_points(posed), "out.projection", EXACT)
    homogeneous = camera_points(posed) @ g["out.persc_proj"]
    assert relative_error(picture_points(posed), homogeneous[..., :2] / homogeneous[..., 2:], "max") < EXACT
    g.check(rotation.mT, "out.rotation", EXACT)
    g.check(torch.cat([rotation, face.translation[..., None]], -1), "out.scipy_euler_c2w", EXACT)
    g.check(euler_angles(rotation_matrix(face.euler.double())), "out.scipy_euler_back", EXACT)


@checks("face3d")
def landmarks_of_the_helper(g: Golden) -> None:
    face, model = faces(g), g.once(official_model)
    for name in g.names(r"out\.helper(\d+)\.lm2d"):
        count, key = int(name), f"out.helper{name}"
        points = model.landmarks(face.identity, face.expression, count)
        posed = pose_points(points, face.euler, face.translation)
        g.check(points, f"{key}.cano_lm3d", EXACT)
        g.check((points - model.landmark_basis(count)[0]) * 10, f"{key}.idexp_lm3d", EXACT)
        g.check(posed, f"{key}.lm3d_world", EXACT)
        g.check(camera_points(posed), f"{key}.lm3d_camera", EXACT)
        g.check(project(posed), f"{key}.lm2d", EXACT)
    eyes = (model.landmarks(face.identity, face.expression, 68)[:, 36:48, :2] + 1) / 2
    area = 100 * polygon_area(eyes.unflatten(1, (2, 6))).sum(dim=1)
    g.check(area, "out.helper68.eye_area_percent", EXACT)


@checks("face3d")
def landmarks_of_the_fit(g: Golden) -> None:
    face, bfm = faces(g), g.once(exact_model)
    for kind, count in g.names(r"out\.(fit|render)_landmarks(\d+)"):
        points = bfm.landmarks(face.identity, face.expression, int(count))
        posed = pose_points(points, face.euler, face.translation)
        g.check(picture_points(posed), f"out.{kind}_landmarks{count}", EXACT)


@checks("face3d")
def texture_normals_and_shading(g: Golden) -> None:
    face, bfm, arrays = faces(g), g.once(exact_model), g.once(bfm_arrays)
    batch = len(face)
    shape = bfm.vertices(face.identity, face.expression)
    normals = vertex_normals(shape, bfm.triangles, "equal")
    mean, basis = (torch.from_numpy(arrays[key]) for key in ("meantex", "texBase"))
    texture = vertex_texture(mean.view(-1, 3), basis.unflatten(0, (-1, 3)), g.input("face3d.tex", (batch, 80), 0, 0.5))
    light = harmonic_light(normals @ rotation_matrix(face.euler).mT, g.input("face3d.gamma", (batch, 27), 0, 0.2))
    g.check(normals, "out.normals", EXACT)
    g.check(texture, "out.texture", EXACT)
    g.check(texture * light, "out.color", EXACT)
    around, padding = arrays["point_buf"], len(bfm.triangles) + 1
    listed = torch.zeros(len(bfm.mean), padding + 1, dtype=torch.bool)
    listed.scatter_(1, torch.from_numpy(around).long(), True)
    corners = torch.zeros_like(listed)
    corners[bfm.triangles.flatten(), torch.arange(1, padding).repeat_interleave(3)] = True
    assert torch.equal(listed[:, 1:padding], corners[:, 1:padding])  # the file's table says nothing new


@checks("face3d")
def cameras_of_poses(g: Golden) -> None:
    face = faces(g)
    camera, frontal = pose_camera(face.euler, face.translation), pose_camera(torch.zeros(1, 3), torch.zeros(1, 3))
    g.check(camera.intrinsics, "out.eg3d.intrinsics", EXACT)
    for key, pose in (("", camera.camera_to_world), ("frontal_", frontal.camera_to_world[0])):
        g.check(pose, f"out.eg3d.{key}c2w", EXACT)
        at_distance = pose.clone()
        at_distance[..., :3, 3] *= 2.7 / pose[..., :3, 3].norm(dim=-1, keepdim=True)
        g.check(at_distance, f"out.eg3d.{key}convention_c2w", EXACT)


@checks("bfm_tables")
def the_published_tables_fit_the_model(g: Golden) -> None:
    vertices, triangles, unplaced = 35709, 70789, [93, 127, 132, 234, 323, 356, 361, 454]
    for version in g.names(r"mp468_(v[\d.]+)"):
        embedding = LandmarkEmbedding.of_vertices(g[f"mp468_{version}"])
        assert len(embedding.valid) == 468 and int(embedding.vertices.max()) < vertices
        assert torch.nonzero(~embedding.valid).flatten().tolist() in ([], unplaced)
    sides = [g[f"{side}_eye_faces"] for side in ("left", "right")]
    assert all(1 <= int(side.min()) <= int(side.max()) <= triangles for side in sides)
    assert not set(sides[0].tolist()) & set(sides[1].tolist())


# ----------------------------------------------------------------------------------------------------- fitting


def model_beside(g: Golden) -> MorphableModel:
    """The model of face3d.npz in the same folder."""
    return exact_model(g.sibling("face3d"))


@checks("face3d_fit")
def losses_of_the_fit(g: Golden) -> None:
    projected, target = (g.input(f"fit.loss.{key}", (3, 468, 2), 100, 30) for key in ("proj", "target"))
    valid = g.once(model_beside).embedding(468).valid
    sixty_eight = torch.ones(68)
    sixty_eight[[*range(36, 48), *range(60, 68), 28, 29, 30]] = 3
    for key, config in (("image", FIT_PRIOR.photo), ("video", FIT_PRIOR.clip)):
        loss = landmark_loss(projected, target, fit_weights(config, valid))
        g.check(loss, f"out.loss.{key}_landmarks468", LOSSES)
    g.check(landmark_loss(projected[:, :68], target[:, :68], sixty_eight), "out.loss.landmarks68", LOSSES)
    sequence = g.input("fit.loss.seq", (9, 64))
    g.check(laplacian_loss(sequence), "out.loss.laplacian", LOSSES)
    g.check(laplacian_loss(sequence[:1]), "out.loss.laplacian_single", LOSSES)


def official_schedule(problem: FitProblem, steps: int) -> tuple[Tensor, Tensor]:
    """Adam for `steps` on the pose, then as many on everything, all from zero (docs/spec/face3d.md#6)."""
    sizes = ((1, 80), (problem.frames, 64), (problem.frames, 3), (problem.frames, 3))
    identity, expression, euler, translation = (torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in sizes)
    pose = torch.optim.Adam([euler, translation], 0.1)
    shape = torch.optim.Adam([identity, expression], 0.1)
    for step in range(2 * steps):
        per_frame = torch.cat([expression, euler, translation], dim=1)
        loss = problem.objective(identity, per_frame, regularised=step >= steps)
        pose.zero_grad()
        shape.zero_grad()
        loss.backward()
        pose.step()
        if step >= steps:
            shape.step()
    return identity.detach(), torch.cat([expression, euler, translation], dim=1).detach()


def stored_fit(g: Golden, key: str) -> tuple[Tensor, Tensor]:
    parts = [g[f"out.{key}.{part}"].double() for part in ("id", "exp", "euler", "trans")]
    return parts[0], torch.cat(parts[1:], dim=1)


def fit_problem(g: Golden, kind: str) -> FitProblem:
    landmarks = g[f"in.{kind}.landmarks"].double() / 512
    config = FIT_PRIOR.clip if kind == "clip" else FIT_PRIOR.photo
    return FitProblem(g.once(model_beside), landmarks.view(-1, 478, 2), config)


@checks("face3d_fit")
def official_optimiser_on_our_objective(g: Golden) -> None:
    for kind, length in g.names(r"out\.(image|clip)\.(steps\d+|full)\.id"):
        key, problem = f"out.{kind}.{length}", fit_problem(g, kind)
        steps = 200 if length == "full" else int(length.removeprefix("steps"))
        identity, per_frame = official_schedule(problem, steps)
        parts = {"id": identity, "exp": per_frame[:, :64], "euler": per_frame[:, 64:67], "trans": per_frame[:, 67:]}
        for part, value in parts.items():
            g.close(value, f"{key}.{part}", FITTED)
        posed = pose_points(problem.points(identity, per_frame), parts["euler"], parts["trans"])
        g.close(picture_points(posed), f"{key}.projection", PIXELS)


@checks("face3d_fit")
def our_fit_is_at_least_as_good_as_the_official_one(g: Golden) -> None:
    for kind in g.names(r"out\.(image|clip)\.full\.id"):
        problem, model = fit_problem(g, kind), g.once(model_beside)
        landmarks = problem.target / PICTURE
        fit = fit_photo(model, landmarks[0]) if kind == "image" else fit_clip(model, landmarks)
        per_frame = torch.cat([fit.expression, fit.euler, fit.translation], dim=1).double()
        ours = problem.objective(fit.identity.double(), per_frame)
        assert ours <= problem.objective(*stored_fit(g, f"{kind}.full"))
