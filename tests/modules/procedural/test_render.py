from dataclasses import replace

import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients, project
from modules.geometry.camera import FITTING_FOCAL_LENGTH, WORLD_OFFSET, WORLD_SCALE, pose_camera
from modules.procedural.clips import named_expression
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person
from modules.procedural.render import BODY_SKIN, CLOTHES, FACE_SKIN, HAIR, posed_vertices, render

SIZE = 64
NEUTRAL = torch.zeros(1, 80)


@pytest.fixture(scope="module")
def model():
    return procedural_model()


def face(person, frames=1, yaw=0.0, distance=-5.0, **actions):
    euler = torch.tensor([[0.0, yaw, 0.0]]).repeat(frames, 1)
    return FaceCoefficients(
        person.identity[None],
        named_expression(frames, **actions),
        euler,
        torch.tensor([[0.0, 0.1, distance]]).repeat(frames, 1),
    )


def test_a_portrait_shows_hair_face_neck_and_clothes_on_a_background(model):
    person = sample_person(5)
    view = render(model, person, face(person), SIZE)
    assert view.image.shape == (1, 3, SIZE, SIZE) and view.classes.dtype == torch.uint8
    assert view.image.min() >= -1 and view.image.max() <= 1
    shares = [float((view.classes == kind).float().mean()) for kind in range(6)]
    assert min(shares[kind] for kind in (0, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES)) > 0.005
    assert 0.08 < shares[FACE_SKIN] < 0.35
    assert ((view.depth > 0) == (view.classes[:, None] > 0)).all()
    assert view.depth[view.depth > 0].min() > 12


def test_head_pictures_hold_the_same_head_on_minus_one(model):
    person = sample_person(5)
    full, head = (render(model, person, face(person), SIZE, parts=parts) for parts in ("full", "head"))
    of_head = torch.isin(full.classes, torch.tensor([1, 3, 5], dtype=torch.uint8))
    assert (of_head != (head.classes > 0)).float().mean() < 0.01
    inner = -torch.nn.functional.max_pool2d(-of_head[:, None].float(), 3, 1, 1) > 0
    difference = (full.image - head.image).abs()[inner.expand_as(full.image)]
    assert (difference > 1e-5).float().mean() < 0.01  # pixels shared with the neck between strands
    outer = torch.nn.functional.max_pool2d(of_head[:, None].float(), 3, 1, 1) == 0
    assert (head.image[outer.expand_as(head.image)] == -1).float().mean() > 0.99  # but for single strands


def test_frames_of_a_clip_equal_single_frames(model):
    person = sample_person(9)
    clip = face(person, 2, jaw_open=torch.tensor([0.0, 0.6]))
    together = render(model, person, clip, SIZE)
    alone = render(model, person, clip[1], SIZE)
    torch.testing.assert_close(together.image[1:], alone.image, atol=1e-5, rtol=0)
    assert (together.image[0] - together.image[1]).abs().max() > 0.2


def test_a_given_background_fills_what_nobody_covers(model):
    person = sample_person(3)
    view = render(model, person, face(person), SIZE, background=torch.full((3, SIZE, SIZE), 0.25))
    assert (view.image[0, :, 0, 0] - 0.25).abs().max() < 1e-6


def test_light_travels_with_the_head(model):
    """The nose is as bright from the side as from the front: the world is the same from all cameras."""
    person = replace(sample_person(3), light_colour=torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]))
    tones = []
    for yaw in (0.0, 0.35):
        view = render(model, person, face(person, yaw=yaw, distance=-3.0), 96, parts="head")
        depth = torch.where(view.depth > 0, view.depth, 99.0)[0, 0]
        row, column = divmod(int(depth.argmin()), 96)
        tones.append(view.image[0, :, row - 1 : row + 2, column - 1 : column + 2].mean())
    assert abs(tones[0] - tones[1]) < 0.12


def test_shoulders_hardly_turn_with_the_head(model):
    person = sample_person(3)
    turned, straight = (
        posed_vertices(model, model.vertices(NEUTRAL, torch.zeros(1, 64)), face(person, yaw=yaw))[0]
        for yaw in (0.5, 0.0)
    )
    moved = (turned - straight).norm(dim=1)
    assert moved[model.vertex_group("shoulders")].max() < 0.3 * moved[model.vertex_group("ears")].max()


def test_parts_must_be_known(model):
    person = sample_person(3)
    with pytest.raises(ValueError, match="torso"):
        render(model, person, face(person), SIZE, parts="torso")


def test_the_tri_plane_camera_sees_vertices_where_they_are_rendered(model):
    generator = torch.Generator().manual_seed(0)
    euler = 0.4 * torch.randn(4, 3, generator=generator)
    translation = torch.tensor([0.0, 0.0, -5.0]) + 0.2 * torch.randn(4, 3, generator=generator)
    expression = torch.zeros(4, 64)
    vertices = model.vertices(torch.zeros(1, 80), expression)
    posed = FaceCoefficients(torch.zeros(1, 80), expression, euler, translation)
    head = model.vertex_group("skin") | model.vertex_group("hair")
    rendered = project(posed_vertices(model, vertices, posed))[:, head]  # [4, V, 2]
    camera = pose_camera(euler, translation, FITTING_FOCAL_LENGTH)
    world = vertices[:, head] * WORLD_SCALE + torch.tensor(WORLD_OFFSET)
    seen = (world - camera.camera_to_world[:, None, :3, 3]) @ camera.camera_to_world[:, :3, :3]
    seen = seen @ camera.intrinsics.mT
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], rendered, atol=1e-5, rtol=0)
