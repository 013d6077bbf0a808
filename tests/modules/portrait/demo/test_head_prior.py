from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from modules.face3d.pncc import render_pncc
from modules.geometry.camera import pose_camera
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.demo.head_prior import (
    HeadPriorConfig,
    embed_motion_planes,
    pncc_correspondence,
    project_photo,
    project_pncc,
    warp_by_pncc,
)
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person
from modules.rendering.planes import plane_coordinates, sample_planes

CONFIG = HeadPriorConfig()
POSES = {"frontal": (0.0, 0.0, 0.0), "turned": (0.1, 0.4, 0.0), "tilted": (0.0, -0.2, 0.3)}


def surface_point(x: float, y: float) -> torch.Tensor:
    """The point of the head's ellipsoid before (x, y) of the XY plane."""
    (x0, y0, z0), (rx, ry, rz) = CONFIG.head_centre, CONFIG.head_radii
    return torch.tensor([x, y, z0 + rz * (1 - ((x - x0) / rx) ** 2 - ((y - y0) / ry) ** 2) ** 0.5])


def picture_of_spot(point: torch.Tensor, camera) -> torch.Tensor:
    """A black picture [1, 3, 256, 256] with a soft white spot where the camera sees the point."""
    seen = camera.intrinsics[0] @ (torch.linalg.inv(camera.camera_to_world[0]) @ torch.cat([point, torch.ones(1)]))[:3]
    steps = (torch.arange(256) + 0.5) / 256
    squares = (steps - seen[0] / seen[2])[None] ** 2 + (steps - seen[1] / seen[2])[:, None] ** 2
    return (2 * torch.exp(-squares / 2 / 0.012**2) - 1).expand(1, 3, -1, -1)


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("shift", [(0.0, 0.0, -5.0), (0.3, -0.2, -4.0)])
def test_a_point_of_the_head_lands_on_its_position_in_the_plane_whatever_the_pose(pose, shift):
    x, y = 0.11, -0.06
    camera = pose_camera(torch.tensor([POSES[pose]]), torch.tensor([shift]))
    projected = project_photo(picture_of_spot(surface_point(x, y), camera), camera, 1.0, 128, CONFIG)[0, 0]
    row, column = int((0.5 - y) * 128), int((0.5 + x) * 128)
    around = projected[row - 4 : row + 5, column - 4 : column + 5]
    assert projected[row - 1 : row + 2, column - 1 : column + 2].max() == around.max() > 0.7  # hidden points may too


def test_outside_the_photo_there_is_no_head():
    camera = pose_camera(torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 0.0]]))
    projected = project_photo(torch.ones(1, 3, 64, 64), camera, 1.0, 32, CONFIG)
    assert (projected[..., -1] == -1).all() and projected.max() == 1


def test_pncc_covers_the_face_s_part_of_the_plane():
    x, y = 0.08, -0.12
    camera = pose_camera(torch.zeros(1, 3), torch.zeros(1, 3), 1015 / 224)
    projected = project_pncc(picture_of_spot(surface_point(x, y), camera), 1.0, 128, CONFIG)[0, 0]
    row, column = divmod(int(projected.argmax()), 128)
    left, top = CONFIG.face_centre[0] - 0.25, CONFIG.face_centre[1] + 0.25
    assert abs(left + (column + 0.5) / 256 - x) < 2 / 256 and abs(top - (row + 0.5) / 256 - y) < 2 / 256


def test_motion_planes_lie_in_the_cube_of_the_face():
    small = torch.zeros(1, 3, 4, 16, 16)
    small[:, 0, :, 5, 9], small[:, 1, :, 11, 9], small[:, 2, :, 9, 11] = 1.0, 10.0, 100.0  # x 9, y 5, z 11
    embedded = embed_motion_planes(small, 1.0, CONFIG)
    assert embedded.shape == (1, 3, 4, 32, 32)
    low = [round((c + 0.25) * 32) / 32 - 0.5 for c in CONFIG.face_centre]
    point = torch.tensor([[[low[0] + 9.5 / 32, low[1] + 5.5 / 32, low[2] + 11.5 / 32]]])
    values = sample_planes(embedded, point, 1.0)[0, :, 0, 0]
    assert values.tolist() == pytest.approx([1.0, 10.0, 100.0])
    assert plane_coordinates(point, 1.0).abs().max() < 1
    assert embedded.sum() == small.sum()


def test_outside_the_face_s_cube_motion_changes_nothing():
    embedded = embed_motion_planes(torch.full((1, 3, 2, 8, 8), 5.0), 1.0, CONFIG, outside=1.0)
    assert (embedded == 1).sum() == 3 * 2 * (16 * 16 - 8 * 8)


def test_projection_is_float32_under_autocast():
    camera = pose_camera(torch.tensor([POSES["turned"]]), torch.tensor([[0.1, 0.1, -5.0]]))
    picture = 2 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    exact = project_photo(picture, camera, 1.0, 32, CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(project_photo(picture, camera, 1.0, 32, CONFIG), exact)


def test_a_share_that_does_not_divide_the_planes_is_refused():
    with pytest.raises(ValueError, match="face_share 0.3 does not divide motion planes of 64"):
        HeadPriorConfig(face_share=0.3).motion_size(64)
    with pytest.raises(ValueError, match="head_radii"):
        HeadPriorConfig(head_radii=(0.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def mouths():
    """PNCC of a closed and an open mouth, [1, 3, 128, 128] each."""
    model, identity = procedural_model(), sample_person(900_007).identity[None]
    expression = torch.zeros(2, 64)
    points = model.landmarks(identity, torch.eye(64), 68)
    expression[1, (points[:, 66, 1] - points[:, 62, 1]).abs().argmax()] = 2.0  # the mode that opens it most
    return render_pncc(model, identity, expression, 128).split(1)


def own_positions(size):
    steps = (torch.arange(size) + 0.5) * 2 / size - 1
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)


def test_the_source_s_skin_is_found_again_in_another_expression(mouths):
    closed, opened = mouths
    positions, _ = pncc_correspondence(closed, opened, 1.0, 64, CONFIG)
    of_source, of_driving = (project_pncc(pncc, 1.0, 64, CONFIG) for pncc in mouths)
    warped = F.grid_sample(of_source, positions, align_corners=False)
    inner = -F.max_pool2d((of_driving == -1).any(dim=1, keepdim=True).float(), 5, 1, 2) > -1  # no edges of skin
    error, before = ((pncc - of_driving)[:, :2].abs().amax(dim=1, keepdim=True)[inner] for pncc in (warped, of_source))
    assert error.quantile(0.95) < 0.01 < before.quantile(0.95)
    moved = (positions - own_positions(64))[0, ..., 1] * 32
    assert moved.min() < -2 and moved.max() < 2  # skin of the chin came from above


def test_an_unchanged_expression_moves_nothing(mouths):
    for pncc in mouths:
        positions, opened = pncc_correspondence(pncc, pncc, 1.0, 64, CONFIG)
        assert (positions - own_positions(64)).abs().max() < 1e-4 and opened.max() == 0


def test_an_open_mouth_is_where_the_skin_opens(mouths):
    closed, opened = mouths
    share = pncc_correspondence(closed, opened, 1.0, 64, CONFIG)[1][0, 0]
    rows, columns = torch.nonzero(share > 0.9, as_tuple=True)
    assert len(rows) > 10 and 24 < columns.float().mean() < 40 and rows.float().mean() > 32


def test_pnccs_without_a_face_move_nothing(mouths):
    empty = torch.full((1, 3, 128, 128), -1.0)
    for source, driving in ((empty, empty), (mouths[0], empty), (empty, mouths[0])):
        positions, _ = pncc_correspondence(source, driving, 1.0, 32, CONFIG)
        assert positions.isfinite().all()
    assert (pncc_correspondence(mouths[0], empty, 1.0, 32, CONFIG)[0] == own_positions(32)).all()


def test_the_xy_plane_alone_is_warped_within_the_face_s_square(mouths):
    rows = torch.arange(128.0).view(-1, 1).expand(1, 3, 8, -1, 128).contiguous()  # the value is the row from below
    warped = warp_by_pncc(rows, mouths[0], mouths[1], 1.0, CONFIG)
    change = warped - rows
    assert (change[:, 1:] == 0).all()
    low, left = 128 // 2 - 9 - 32, 128 // 2 - 32  # of the face's square
    outside = change[:, 0].clone()
    outside[..., low : low + 64, left : left + 64] = 0
    assert (outside == 0).all()
    assert change[0, 0, 5].max() > 2 and change[0, 0, 5].min() > -2  # what the chin has came from above


def test_planes_of_one_photo_serve_several_frames(mouths):
    planes = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    both = warp_by_pncc(planes, mouths[0].expand(2, -1, -1, -1), torch.cat(mouths), 1.0, CONFIG)
    for index in range(2):
        alone = warp_by_pncc(planes, mouths[0], mouths[index], 1.0, CONFIG)
        assert torch.allclose(both[index], alone[0], atol=1e-6)


def test_gradients_reach_the_planes_through_the_warp(mouths):
    planes = torch.zeros(1, 3, 8, 64, 64, requires_grad=True)
    warp_by_pncc(planes, *mouths, 1.0, CONFIG).sum().backward()
    assert planes.grad.isfinite().all() and planes.grad[:, 0, 5].sum() > 0 and (planes.grad[:, 1:] == 1).all()


def test_too_few_channels_are_refused():
    config = Real3DPortraitConfig.demo(1)
    with pytest.raises(ValueError, match="24 plane_channels and 4 hidden_channels"):
        replace(config, renderer=replace(config.renderer, hidden_channels=4))
