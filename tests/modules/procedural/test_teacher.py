import pytest
import torch

from modules.face3d.coefficients import FOCAL_LENGTH, FaceCoefficients, project
from modules.geometry.camera import WORLD_OFFSET, WORLD_SCALE, pose_camera
from modules.procedural.head import procedural_model
from modules.procedural.render import posed_vertices
from modules.procedural.teacher import ProceduralTeacher, ProceduralTeacherConfig, camera_pose


@pytest.fixture(scope="module")
def teacher() -> ProceduralTeacher:
    return ProceduralTeacher(ProceduralTeacherConfig(), procedural_model())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_tri_plane_camera_sees_vertices_where_they_are_rendered(teacher):
    model = teacher.model
    camera = teacher.cameras(4, generator())
    euler, translation = camera_pose(camera)
    expression = torch.zeros(4, 64)
    vertices = model.vertices(torch.zeros(1, 80), expression)
    face = FaceCoefficients(torch.zeros(1, 80), expression, euler, translation)
    head = model.vertex_group("skin") | model.vertex_group("hair")
    rendered = project(posed_vertices(model, vertices, face))[:, head]                   # [4, V, 2]
    world = vertices[:, head] * WORLD_SCALE + torch.tensor(WORLD_OFFSET)
    seen = (world - camera.camera_to_world[:, None, :3, 3]) @ camera.camera_to_world[:, :3, :3]
    seen = seen @ camera.intrinsics.mT
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], rendered, atol=1e-5, rtol=0)


def test_poses_and_cameras_are_inverse():
    euler, translation = torch.tensor([[0.2, -0.5, 0.1]]), torch.tensor([[0.1, -0.2, -5.0]])
    found = camera_pose(pose_camera(euler, translation, FOCAL_LENGTH))
    torch.testing.assert_close(found[0], euler)
    torch.testing.assert_close(found[1], translation, atol=1e-5, rtol=0)


def test_another_focal_length_is_refused():
    with pytest.raises(ValueError, match="4.2647"):
        camera_pose(pose_camera(torch.zeros(1, 3), torch.zeros(1, 3), 4.2647))


def test_views_are_heads_on_nothing_with_depth_in_world_units(teacher):
    people = teacher.sample(2, generator(1))
    views = teacher.views(people, teacher.cameras(2, generator(2)), 48)
    assert views.image.shape == (2, 3, 48, 48) and views.depth.shape == (2, 1, 48, 48)
    assert (views.image[:, :, -1] == -1).all()
    depth = views.depth[views.depth > 0]
    assert 3.0 < depth.min() and depth.max() < 5.0


def test_training_and_held_out_people_never_meet(teacher):
    held_out = ProceduralTeacher(ProceduralTeacherConfig(held_out=True), teacher.model)
    assert all(person.seed < 100_000 for person in teacher.sample(5, generator()).people)
    assert all(person.seed >= 900_000 for person in held_out.sample(5, generator()).people)


def test_impossible_ranges_are_refused():
    with pytest.raises(ValueError, match="95"):
        ProceduralTeacherConfig(yaw=95.0)
