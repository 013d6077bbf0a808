from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.testing import assert_close

from inference.motion import Motion
from inference.portrait import Portrait
from inference.track import PoseMode, apply_blinks, make_track
from modules.portrait.driving import DrivingConfig, head_camera
from modules.procedural.head import procedural_model


def shaking(frames: int) -> Motion:
    euler = 0.1 * (-1.0) ** torch.arange(frames)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    return Motion(torch.full((frames, 64), 0.1), euler, torch.zeros(frames, 3), torch.zeros(frames, 1), "procedural")


def test_a_shaking_head_is_smoothed_over_seven_frames(portrait: Portrait) -> None:
    """Cameras and key points alike: alternating poses of +-0.1 leave a seventh of it."""
    model, config, motion = procedural_model(), DrivingConfig.demo(), shaking(21)
    track = make_track(portrait, motion, model, config)
    yaw = torch.asin(track.cameras.camera_to_world[:, 0, 2].clamp(-1, 1))
    swing, raw = (yaw[11:14] - yaw[10:13]).abs().mean(), 0.2
    assert 0.8 * raw / 7 < swing < 1.2 * raw / 7
    turning = motion.euler[torch.arange(21) // 11]  # once, in the middle
    turned = make_track(portrait, replace(motion, euler=turning), model, config).keypoints
    full = (turned[20] - turned[0])[:, 0].abs().mean()
    moving = (track.keypoints[11:14] - track.keypoints[10:13])[..., 0].abs().mean()
    assert 0.8 * full / 7 < moving < 1.2 * full / 7


def test_a_relative_pose_starts_from_the_photo_s_and_an_absolute_one_is_the_driver_s(portrait: Portrait) -> None:
    model, config, frames = procedural_model(), DrivingConfig.demo(), 15
    nod = torch.linspace(0.2, 0.4, frames)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    near = torch.tensor([[0.3, 0.0, -3.0]]) + torch.linspace(0, 1, frames)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    motion = replace(shaking(frames), euler=nod, translation=near)
    turned = replace(portrait, euler=torch.tensor([[0.0, 0.3, 0.0]]))

    def cameras(mode: PoseMode) -> Tensor:
        return make_track(turned, motion, model, config, mode).cameras.camera_to_world

    exact = head_camera(nod, near, config).camera_to_world
    middle = slice(3, frames - 3)  # evenly moving poses: smoothing changes little where the window is whole
    assert_close(cameras("absolute")[middle], exact[middle], atol=5e-3, rtol=0)
    distance = cameras("relative")[middle, :3, 3].norm(dim=1)
    assert distance.std() < 0.02 < cameras("absolute")[middle, :3, 3].norm(dim=1).std()
    photo = head_camera(turned.euler, turned.translation, config).camera_to_world
    assert_close(cameras("relative")[0, :3, :3], photo[0, :3, :3], atol=0.05, rtol=0)
    assert (cameras("absolute")[0, :3, :3] - photo[0, :3, :3]).abs().max() > 0.15
    assert torch.equal(cameras("relative"), make_track(turned, motion, model, config).cameras.camera_to_world)


def test_the_source_pncc_has_the_photo_s_expression_or_the_first_frame_s(portrait: Portrait) -> None:
    model, motion = procedural_model(), shaking(3)
    smiling = replace(portrait, expression=torch.full((1, 64), 0.3))
    own = make_track(smiling, motion, model, DrivingConfig.demo())
    first = make_track(smiling, motion, model, replace(DrivingConfig.demo(), source_pncc="first_driving"))
    assert torch.equal(own.source_expression, smiling.expression)
    assert torch.equal(first.source_expression, first.expression[:1])


def test_blinks_are_expressions_where_the_face_model_has_them() -> None:
    model, motion = procedural_model(), replace(shaking(2), blink=torch.tensor([[0.0], [1.0]]))
    expression, closing = apply_blinks(motion, model)
    assert torch.equal(expression, motion.expression) and closing.tolist() == [0.0, 1.0]  # closed in the PNCC
    expression, closing = apply_blinks(motion, SimpleNamespace(blink_modes=[3, 5]))
    assert closing.eq(0).all() and torch.equal(expression[0], motion.expression[0])
    assert (expression[1, [3, 5]] == 1).all() and (expression[1, [2, 4]] == motion.expression[1, [2, 4]]).all()
