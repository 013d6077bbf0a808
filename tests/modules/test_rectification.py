import pytest
import torch

from modules.camera import pose_camera
from modules.rectification import RectificationConfig, place_motion, rectify_photo, rectify_pncc
from modules.rendering.planes import plane_coordinates, sample_planes

CONFIG = RectificationConfig()
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
def test_a_point_of_the_head_lands_on_its_place_in_the_plane_whatever_the_pose(pose, shift):
    x, y = 0.11, -0.06
    camera = pose_camera(torch.tensor([POSES[pose]]), torch.tensor([shift]))
    found = rectify_photo(picture_of_spot(surface_point(x, y), camera), camera, 1.0, 128, CONFIG)[0, 0]
    row, column = int((0.5 - y) * 128), int((0.5 + x) * 128)
    around = found[row - 4:row + 5, column - 4:column + 5]
    assert found[row - 1:row + 2, column - 1:column + 2].max() == around.max() > 0.7     # hidden points may show it too


def test_outside_the_picture_there_is_no_head():
    camera = pose_camera(torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 0.0]]))
    found = rectify_photo(torch.ones(1, 3, 64, 64), camera, 1.0, 32, CONFIG)
    assert (found[..., -1] == -1).all() and found.max() == 1


def test_pncc_covers_the_face_s_part_of_the_plane():
    x, y = 0.08, -0.12
    camera = pose_camera(torch.zeros(1, 3), torch.zeros(1, 3), 1015 / 224)
    found = rectify_pncc(picture_of_spot(surface_point(x, y), camera), 1.0, 128, CONFIG)[0, 0]
    row, column = divmod(int(found.argmax()), 128)
    left, top = CONFIG.face_centre[0] - 0.25, CONFIG.face_centre[1] + 0.25
    assert abs(left + (column + 0.5) / 256 - x) < 2 / 256 and abs(top - (row + 0.5) / 256 - y) < 2 / 256


def test_motion_planes_lie_in_the_cube_of_the_face():
    small = torch.zeros(1, 3, 4, 16, 16)
    small[:, 0, :, 5, 9], small[:, 1, :, 11, 9], small[:, 2, :, 9, 11] = 1.0, 10.0, 100.0      # x 9, y 5, z 11
    placed = place_motion(small, 1.0, CONFIG)
    assert placed.shape == (1, 3, 4, 32, 32)
    low = [round((c + 0.25) * 32) / 32 - 0.5 for c in CONFIG.face_centre]
    point = torch.tensor([[[low[0] + 9.5 / 32, low[1] + 5.5 / 32, low[2] + 11.5 / 32]]])
    values = sample_planes(placed, point, 1.0)[0, :, 0, 0]
    assert values.tolist() == pytest.approx([1.0, 10.0, 100.0])
    assert plane_coordinates(point, 1.0).abs().max() < 1
    assert placed.sum() == small.sum()


def test_outside_the_face_s_cube_motion_changes_nothing():
    placed = place_motion(torch.full((1, 3, 2, 8, 8), 5.0), 1.0, CONFIG, outside=1.0)
    assert (placed == 1).sum() == 3 * 2 * (16 * 16 - 8 * 8)


def test_rectification_is_float32_under_autocast():
    camera = pose_camera(torch.tensor([POSES["turned"]]), torch.tensor([[0.1, 0.1, -5.0]]))
    picture = 2 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    exact = rectify_photo(picture, camera, 1.0, 32, CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rectify_photo(picture, camera, 1.0, 32, CONFIG), exact)


def test_a_share_that_does_not_divide_the_planes_is_refused():
    with pytest.raises(ValueError, match="face_share 0.3 does not divide motion planes of 64"):
        RectificationConfig(face_share=0.3).motion_size(64)
    with pytest.raises(ValueError, match="head_radii"):
        RectificationConfig(head_radii=(0.0, 1.0, 1.0))
