"""Numbers of the original system: morphable model, PNCC, fitting, blink, smoothing, camera samplers."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from modules.camera import (
    fov_intrinsics,
    gaussian_cameras,
    look_at_camera,
    mirror_index,
    pose_camera,
    prepare_poses,
    smooth_cameras,
    smooth_features,
    uniform_cameras,
)
from modules.face3d.bfm import bfm_from_arrays
from modules.face3d.coefficients import (
    FaceCoefficients,
    camera_points,
    euler_angles,
    pose_points,
    project,
    rotation_matrix,
)
from modules.face3d.fitting import (
    FitConfig,
    FitProblem,
    fit_clip,
    fit_photo,
    landmark_loss,
    landmark_weights,
    laplacian_loss,
)
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import blink_curve, close_eyes, render_coordinates
from modules.face3d.rasterizer import interpolate, rasterize
from tests.golden.compare import check, relative_error


def bfm_arrays(file) -> dict[str, np.ndarray]:
    """The synthetic model of face3d.npz, in the layout of the real .mat file."""
    npz = file.npz
    points = npz["bfm.meanshape"].astype(np.float64).reshape(-1, 3)
    x, y, z = points.T
    basis = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x], axis=1)  # [V, 10]
    arrays = {key: npz[f"bfm.{key}"] for key in ("meanshape", "tri", "keypoints")}
    for key, name, size in (("idBase", "id_weights", 80), ("exBase", "exp_weights", 64)):
        weights = file.constant(f"face3d.{name}", (10, 3, size), 0, 0.008, "float64").numpy()
        arrays[key] = np.einsum("vj,jck->vck", basis, weights).reshape(-1, size).astype(np.float32)
        assert_close(torch.tensor(arrays[key][::997, ::7]), torch.tensor(npz[f"check.{key}.997x7"]))
    return arrays


def synthetic_model(file, offset: int = 0) -> MorphableModel:
    eyes = np.concatenate([file.npz["bfm.left_eye_faces"], file.npz["bfm.right_eye_faces"]]).astype(np.int64)
    mediapipe = torch.from_numpy(file.npz["bfm.mp468"].astype(np.int64))
    return bfm_from_arrays(bfm_arrays(file), mediapipe, torch.from_numpy(eyes), landmark68_offset=offset)


@pytest.fixture(scope="module")
def bfm(golden) -> MorphableModel:
    return synthetic_model(golden("face3d"))


def coefficients(file, name: str, batch: int) -> FaceCoefficients:
    return FaceCoefficients(
        file.input(f"{name}.id", (batch, 80), 0, 0.5),
        file.input(f"{name}.exp", (batch, 64), 0, 0.5),
        file.input(f"{name}.euler", (batch, 3), 0, 0.25),
        file.input(f"{name}.trans", (batch, 3), 0, 0.15),
    )


def uv(posed: torch.Tensor) -> torch.Tensor:
    """Fractions -> (u, v) of the 224 picture, v upwards."""
    fractions = project(posed)
    return 224 * torch.stack([fractions[..., 0], 1 - fractions[..., 1]], dim=-1)


def test_shape_pose_and_projection(golden, bfm):
    file = golden("face3d")
    face = coefficients(file, "face3d", 3)
    shape = bfm.vertices(face.identity, face.expression)
    posed = pose_points(shape, face.euler, face.translation)
    assert relative_error(bfm.mean[::5], file.npz["out.mean_recentred.5x1"]) < 1e-5
    check(shape, file.npz, "out.shape", 1e-5)
    check(camera_points(posed), file.npz, "out.camera_vertices", 1e-5)
    check(uv(posed), file.npz, "out.projection", 1e-5)
    check(rotation_matrix(face.euler).mT, file.npz, "out.rotation", 1e-5)
    check(
        torch.cat([rotation_matrix(face.euler), face.translation[..., None]], -1),
        file.npz,
        "out.scipy_euler_c2w",
        1e-5,
    )
    check(euler_angles(rotation_matrix(face.euler.double())), file.npz, "out.scipy_euler_back", 1e-5)


@pytest.mark.parametrize("count, offset, key", [(68, 1, "out.helper68"), (468, 0, "out.helper468")])
def test_landmarks_of_the_helper(golden, count, offset, key):
    file = golden("face3d")
    model, face = synthetic_model(file, offset), coefficients(file, "face3d", 3)
    points = model.landmarks(face.identity, face.expression, count)
    posed = pose_points(points, face.euler, face.translation)
    check(points, file.npz, f"{key}.cano_lm3d", 1e-5)
    check((points - model.landmark_basis(count)[0]) * 10, file.npz, f"{key}.idexp_lm3d", 1e-5)
    check(posed, file.npz, f"{key}.lm3d_world", 1e-5)
    check(camera_points(posed), file.npz, f"{key}.lm3d_camera", 1e-5)
    check(project(posed), file.npz, f"{key}.lm2d", 1e-5)


def test_landmarks_of_the_fit(golden, bfm):
    file = golden("face3d")
    face = coefficients(file, "face3d", 3)
    for count, key in (
        (468, "out.fit_landmarks468"),
        (68, "out.fit_landmarks68"),
        (68, "out.render_landmarks68"),
    ):
        points = bfm.landmarks(face.identity, face.expression, count)
        check(uv(pose_points(points, face.euler, face.translation)), file.npz, key, 1e-5)


def test_cameras_of_poses(golden):
    file = golden("face3d")
    face = coefficients(file, "face3d", 3)
    camera = pose_camera(face.euler, face.translation)
    check(camera.camera_to_world, file.npz, "out.eg3d.c2w", 1e-5)
    check(camera.intrinsics, file.npz, "out.eg3d.intrinsics", 1e-5)
    frontal = pose_camera(torch.zeros(1, 3), torch.zeros(1, 3))
    check(frontal.camera_to_world[0], file.npz, "out.eg3d.frontal_c2w", 1e-5)


def bits(npz, key: str, size: int) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(npz[key], axis=-1)[..., :size].astype(bool))


def secc_coefficients(file) -> FaceCoefficients:
    face = coefficients(file, "secc", 2)
    translation = torch.cat([face.translation[:, :2], face.translation[:, 2:].clamp(-0.5, 0.5)], 1)
    return face.replace(translation=translation)


@pytest.mark.parametrize("size, stride", [(128, 1), (256, 2), (512, 4)])
@pytest.mark.parametrize("pose", ["canonical", "posed"])
def test_pncc(golden, bfm, size, stride, pose):
    file = golden("secc")
    face = secc_coefficients(file)
    still = torch.zeros(2, 3)
    euler, translation = (still, still) if pose == "canonical" else (face.euler, face.translation)
    points = camera_points(pose_points(bfm.vertices(face.identity, face.expression), euler, translation))
    fragments = rasterize(points, bfm.pncc_triangles, size)
    colours = render_coordinates(bfm, points, size)
    expected = bits(file.npz, f"out.{pose}{size}.mask.bits", size)
    agree = fragments.mask == expected
    assert (~agree).sum() <= 6 + 1e-4 * agree.numel()
    assert (~agree & (fragments.triangle != 0)).sum() <= 1e-4 * agree.numel()
    agree = agree[:, None, ::stride, ::stride].float()
    strided = "" if stride == 1 else f".{stride}x{stride}"
    reference = torch.from_numpy(file.npz[f"out.{pose}{size}.secc{strided}"])
    assert ((colours[..., ::stride, ::stride] - reference).abs() * agree).max() < 1e-4
    if f"out.{pose}{size}.depth{strided}" in file.npz:
        depth = torch.from_numpy(file.npz[f"out.{pose}{size}.depth{strided}"])
        assert ((fragments.depth[:, None, ::stride, ::stride] - depth).abs() * agree).max() < 1e-4
    if f"out.{pose}{size}.secc.crop" in file.npz:
        difference = colours[:, :, 180:244, 150:214] - torch.from_numpy(
            file.npz[f"out.{pose}{size}.secc.crop"]
        )
        assert difference.abs().max() < 1e-4
    stats = torch.stack([colours.mean(), colours.std(correction=0), colours.abs().max()]).double()
    assert_close(stats, torch.from_numpy(file.npz[f"out.{pose}{size}.secc.stats"]), atol=1e-4, rtol=0)


def test_pncc_triangles_and_colours(golden, bfm):
    npz = golden("secc").npz
    assert len(bfm.pncc_triangles) == npz["out.faces_kept"][0]
    assert (bfm.pncc_triangles[::11].numpy() == npz["out.faces_kept.11x1"]).all()
    check(bfm.ncc, npz, "out.ncc.7x1", 1e-5)


def test_pncc_of_time_series(golden, bfm):
    file = golden("secc")
    face = secc_coefficients(file)
    points = camera_points(
        pose_points(bfm.vertices(face.identity, face.expression), face.euler, face.translation)
    )
    frames = render_coordinates(bfm, points, 64)  # [2, 3, 64, 64]
    actual = torch.stack([frames, frames.flip(0)]).transpose(1, 2)  # [B, 3, T, 64, 64]
    off = ((actual - torch.from_numpy(file.npz["out.btc64.secc"])).abs() > 1e-4).any(dim=1)
    assert off.sum() <= 6  # triangle 0, and edges


def test_two_spheres(golden):
    file = golden("secc")
    points, faces = (torch.from_numpy(file.npz[f"in.spheres.{key}"]) for key in ("vertices", "faces"))
    fragments = rasterize(points[None], faces.long(), 128)
    image = interpolate(fragments, file.input("secc.feat", (len(points), 3), 0.5, 0.2), faces.long())[0]
    triangle = torch.from_numpy(file.npz["out.spheres.triangle"]).long()
    agree = fragments.triangle[0] == triangle
    assert (~agree).sum() <= 6
    for actual, key in ((fragments.depth[0], "depth"), (image, "image"), (fragments.barycentric[0], "bary")):
        reference = torch.from_numpy(file.npz[f"out.spheres.{key}"])
        seen = agree & (triangle >= 0)
        seen = seen[..., None] if key == "bary" else seen
        assert ((actual - reference).abs() * seen).max() < 1e-4, key


@pytest.mark.parametrize("amount", ["0.0", "0.25", "0.5", "0.8", "1.0"])
def test_closing_the_eyes(golden, amount):
    npz = golden("blink").npz
    pncc = torch.from_numpy((npz["in.secc_uint8"].astype(np.float32) + 0.5) / 127.5 - 1)
    closed = close_eyes(pncc, float(amount), scale_distances=False)
    actual = ((closed + 1) * 127.5).round()[:, 128:256, 128:384].to(torch.uint8)
    different = (actual != torch.from_numpy(npz[f"out.percent{amount}.crop"])).any(dim=0)
    if amount != "0.0":
        different &= ~bits(npz, f"out.percent{amount}.ambiguous", 256)
    assert not different.any()


@pytest.mark.parametrize("amount", ["0.0", "0.2", "0.5", "0.96", "1.0"])
def test_closing_the_eyes_of_a_small_picture(golden, amount):
    npz = golden("blink_secc").npz
    pncc = torch.from_numpy(npz["in.secc"].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1)
    closed = close_eyes(pncc, float(amount), scale_distances=False)
    actual = ((closed + 1) * 127.5).round()[:, 60:150].to(torch.uint8).permute(1, 2, 0)
    different = (actual != torch.from_numpy(npz[f"out.blink{amount}"])).any(dim=-1)
    if amount != "0.0":
        different &= ~torch.from_numpy(npz[f"tie.blink{amount}"])
    assert not different.any()


def test_blink_curves(golden):
    check(blink_curve(8), golden("blink").npz, "out.percent_curve8", 1e-12)
    check(blink_curve(12), golden("blink").npz, "out.percent_curve12", 1e-12)
    check(blink_curve(11), golden("blink_secc").npz, "out.weights_T11", 1e-12)


def running_pose(file) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        file.input("smooth.euler", (20, 3), 0, 0.1).cumsum(0),
        file.input("smooth.trans", (20, 3), 0, 0.03).cumsum(0),
    )


def test_camera_smoothing(golden):
    file = golden("smooth")
    camera = pose_camera(*(part.double() for part in running_pose(file)))
    check(camera.vector(), file.npz, "out.camera", 1e-5)
    check(smooth_cameras(camera, 7).vector(), file.npz, "out.camera_smooth7", 1e-5)
    check(smooth_cameras(camera, 4).vector(), file.npz, "out.camera_smooth4", 1e-5)


def test_feature_smoothing(golden):
    file = golden("smooth")
    for name, shape in (("tc", (11, 136)), ("tchw", (9, 2, 3, 4)), ("tcchw", (9, 2, 2, 3, 4))):
        check(smooth_features(file.input(f"smooth.{name}", shape), 7), file.npz, f"out.{name}.smooth7", 1e-5)
    check(smooth_features(file.input("smooth.tc", (11, 136)), 3), file.npz, "out.tc.smooth3", 1e-5)


def test_mirrored_indices(golden):
    npz = golden("smooth").npz
    assert mirror_index(torch.arange(24), 5).tolist() == npz["out.mirror_index5"].tolist()
    assert mirror_index(torch.arange(6), 1).tolist() == npz["out.mirror_index1"].tolist()


@pytest.mark.parametrize("key, mapped", [("mapped", True), ("unmapped", False)])
def test_pose_preparation(golden, key, mapped):
    file = golden("smooth")
    source = [file.input(f"smooth.src_{part}", (1, 3), 0, 0.2) for part in ("euler", "trans")]
    driving = [file.input(f"smooth.pose_{part}", (7, 3), 0, 0.2) for part in ("euler", "trans")]
    euler, translation = prepare_poses(*source, *driving, 20, mapped)
    check(euler, file.npz, f"out.{key}.euler", 1e-5)
    check(translation, file.npz, f"out.{key}.trans", 1e-5)
    check(smooth_cameras(pose_camera(euler, translation)).vector(), file.npz, f"out.{key}.camera", 1e-5)


def close_but_for_the_poles(actual: torch.Tensor, expected: np.ndarray) -> None:
    error = (actual.double() - torch.from_numpy(expected).double()).abs().flatten(1).amax(dim=1)
    assert error[[1, 2]].max() < 1e-3
    assert torch.cat([error[:1], error[3:]]).max() < 1e-5


def test_camera_samplers(golden):
    npz = golden("camera_sampler").npz
    parts = {key[3:]: torch.from_numpy(npz[key]) for key in npz if key.startswith("in.")}
    common = dict(yaw=parts["yaw"], pitch=parts["pitch"], radius=parts["radius"], look_at=parts["lookat"])
    close_but_for_the_poles(look_at_camera(**common).camera_to_world, npz["lookat"])
    close_but_for_the_poles(look_at_camera(**common, roll=parts["roll"]).camera_to_world, npz["lookat_roll"])
    close_but_for_the_poles(look_at_camera(**common, roll=parts["roll"]).vector(), npz["unified"])
    default = look_at_camera(torch.tensor([-0.2]), torch.tensor([0.1]), look_at=torch.tensor([0, 0, -0.2]))
    check(default.vector(), npz, "unified_default", 1e-5)
    check(fov_intrinsics(parts["fov"]), npz, "fov_intrinsics", 1e-5)


@pytest.mark.parametrize(
    "key, noise, spread, target",
    [
        ("gaussian", "normal", (0.3, 0.155), 0.0),
        ("lookat_gaussian", "normal", (0.3, 0.155), 0.2),
        ("uniform", "uniform", (0.5, 0.3), 0.0),
    ],
)
def test_noisy_camera_samplers(golden, monkeypatch, key, noise, spread, target):
    npz = golden("camera_sampler").npz
    draws = iter([torch.from_numpy(npz[f"noise.{axis}_{noise}"]) for axis in "hv"] + [torch.zeros(12)])
    monkeypatch.setattr(torch, "randn" if noise == "normal" else "rand", lambda *_, **__: next(draws))
    sample = gaussian_cameras if noise == "normal" else uniform_cameras
    radius = 2.7 if noise == "normal" else (2.7, 2.7)
    cameras = sample(12, None, yaw=0.1, pitch=-0.05, spread=spread, radius=radius, look_at=(0, 0, target))
    check(cameras.camera_to_world, npz, key, 1e-5)


def test_fitting_losses(golden, bfm):
    file = golden("face3d_fit")
    projected, target = (file.input(f"fit.loss.{key}", (3, 468, 2), 100, 30) for key in ("proj", "target"))
    valid = bfm.embedding(468).valid
    sixty_eight = torch.ones(68)
    sixty_eight[[*range(36, 48), *range(60, 68), 28, 29, 30]] = 3
    losses = {
        "loss.image_landmarks468": landmark_loss(
            projected, target, landmark_weights(FitConfig.photo("bfm"), valid)
        ),
        "loss.video_landmarks468": landmark_loss(
            projected, target, landmark_weights(FitConfig.clip("bfm"), valid)
        ),
        "loss.landmarks68": landmark_loss(projected[:, :68], target[:, :68], sixty_eight),
        "loss.laplacian": laplacian_loss(file.input("fit.loss.seq", (9, 64))),
    }
    for key, loss in losses.items():
        check(loss, file.npz, f"out.{key}", 1e-4)
    assert laplacian_loss(torch.randn(1, 64)) == 0


def official_schedule(problem: FitProblem, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Adam for `steps` on the pose, then as many on everything, all from zero (spec face3d 6)."""
    sizes = ((1, 80), (problem.frames, 64), (problem.frames, 3), (problem.frames, 3))
    identity, expression, euler, translation = (
        torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in sizes
    )
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


def stored_fit(npz, key: str) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [torch.from_numpy(npz[f"out.{key}.{part}"]).double() for part in ("id", "exp", "euler", "trans")]
    return parts[0], torch.cat(parts[1:], dim=1)


def fit_problem(npz, bfm, kind: str) -> FitProblem:
    landmarks = torch.from_numpy(npz[f"in.{kind}.landmarks"]).double() / 512
    config = FitConfig.clip("bfm") if kind == "clip" else FitConfig.photo("bfm")
    return FitProblem(bfm, landmarks.view(-1, 478, 2), config)


@pytest.mark.parametrize("kind", ["image", "clip"])
@pytest.mark.parametrize("key, steps", [("steps5", 5), ("full", 200)])
def test_official_optimiser_on_our_objective(golden, bfm, kind, key, steps):
    npz = golden("face3d_fit").npz
    problem = fit_problem(npz, bfm, kind)
    identity, per_frame = official_schedule(problem, steps)
    expected_identity, expected = stored_fit(npz, f"{kind}.{key}")
    assert_close(identity, expected_identity, atol=1e-4, rtol=0)
    assert_close(per_frame, expected, atol=1e-4, rtol=0)
    projected = uv(pose_points(problem.points(identity, per_frame), per_frame[:, -6:-3], per_frame[:, -3:]))
    assert_close(projected, torch.from_numpy(npz[f"out.{kind}.{key}.projection"]).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_our_fit_is_at_least_as_good_as_the_official_one(golden, bfm, kind):
    npz = golden("face3d_fit").npz
    problem = fit_problem(npz, bfm, kind)
    landmarks = problem.target / 224
    fit = fit_photo(bfm, landmarks[0]) if kind == "image" else fit_clip(bfm, landmarks)
    per_frame = torch.cat([fit.expression, fit.euler, fit.translation], dim=1).double()
    ours = problem.objective(fit.identity.double(), per_frame)
    assert ours <= problem.objective(*stored_fit(npz, f"{kind}.full"))
