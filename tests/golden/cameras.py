"""The original's cameras along a clip, feature smoothing, pose preparation and camera samplers.

See docs/spec/face3d.md#10 and docs/spec/sr_torso_eg3d.md#12.
"""

import math

import pytest
import torch

from modules.geometry.camera import look_at_camera, pose_camera, uniform_cameras
from modules.geometry.trajectory import mirror_index, prepare_poses, smooth_cameras, smooth_features
from tests.golden.file import Golden, checks
from tests.golden.reference import fov_intrinsics, gaussian_cameras

EXACT, BEYOND_THE_POLES = 1e-5, 1e-3


@checks("smooth")
def smoothed_cameras(g: Golden) -> None:
    frames = g.shape("out.camera")[0]
    euler = g.input("smooth.euler", (frames, 3), 0, 0.1).cumsum(0)
    translation = g.input("smooth.trans", (frames, 3), 0, 0.03).cumsum(0)
    camera = pose_camera(euler.double(), translation.double())
    g.check(camera.vector(), "out.camera", EXACT)
    for window in g.names(r"out\.camera_smooth(\d+)"):
        g.check(smooth_cameras(camera, int(window)).vector(), f"out.camera_smooth{window}", EXACT)


@checks("smooth")
def smoothed_features_and_mirrored_indices(g: Golden) -> None:
    for name, window in g.names(r"out\.(tc+h?w?)\.smooth(\d+)"):
        key = f"out.{name}.smooth{window}"
        g.check(smooth_features(g.input(f"smooth.{name}", g.shape(key)), int(window)), key, EXACT)
    for count in g.names(r"out\.mirror_index(\d+)"):
        key = f"out.mirror_index{count}"
        g.equal(mirror_index(torch.arange(g.shape(key)[0]), int(count)), key)


@checks("smooth")
def prepared_poses(g: Golden) -> None:
    source = [g.input(f"smooth.src_{part}", (1, 3), 0, 0.2) for part in ("euler", "trans")]
    driving = [g.input(f"smooth.pose_{part}", (7, 3), 0, 0.2) for part in ("euler", "trans")]
    for key, mapped in (("mapped", True), ("unmapped", False)):
        euler, translation = prepare_poses(*source, *driving, g.shape(f"out.{key}.euler")[0], mapped)
        g.check(euler, f"out.{key}.euler", EXACT)
        g.check(translation, f"out.{key}.trans", EXACT)
        g.check(smooth_cameras(pose_camera(euler, translation)).vector(), f"out.{key}.camera", EXACT)


@checks("camera_sampler")
def look_at_cameras(g: Golden) -> None:
    yaw, pitch, radius, look_at, roll, fov = (
        g[f"in.{name}"] for name in ("yaw", "pitch", "radius", "lookat", "roll", "fov")
    )
    level, rolled = (look_at_camera(yaw, pitch, radius, look_at=look_at, **turn) for turn in ({}, {"roll": roll}))
    beyond = pitch.abs() > math.pi / 2 - 0.01
    for key, actual in (
        ("lookat", level.camera_to_world),
        ("lookat_roll", rolled.camera_to_world),
        ("unified", rolled.vector()),
    ):
        error = (actual.double() - g[key].double()).abs().flatten(1).amax(dim=1)
        g.note(key, float(error[~beyond].max()), EXACT)
        assert not beyond.any() or error[beyond].max() < BEYOND_THE_POLES
    default = look_at_camera(torch.tensor([-0.2]), torch.tensor([0.1]), look_at=torch.tensor([0, 0, -0.2]))
    g.check(default.vector(), "unified_default", EXACT)
    g.check(fov_intrinsics(fov), "fov_intrinsics", EXACT)


@checks("camera_sampler")
def random_cameras(g: Golden) -> None:
    cases = {
        "gaussian": (gaussian_cameras, "normal", (0.3, 0.155), 2.7, 0.0),
        "lookat_gaussian": (gaussian_cameras, "normal", (0.3, 0.155), 2.7, 0.2),
        "uniform": (uniform_cameras, "uniform", (0.5, 0.3), (2.7, 2.7), 0.0),
    }
    for key, (sample, kind, spread, radius, target) in cases.items():
        count = g.shape(key)[0]
        draws = iter([g[f"noise.{axis}_{kind}"] for axis in "hv"] + [torch.zeros(count)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn" if kind == "normal" else "rand", lambda *_, draws=draws, **__: next(draws))
            cameras = sample(count, None, yaw=0.1, pitch=-0.05, spread=spread, radius=radius, look_at=(0, 0, target))
        g.check(cameras.camera_to_world, key, EXACT)
