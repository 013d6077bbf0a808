import torch
from torch.testing import assert_close

from modules.rendering.rays import box_limits, official_limits, pixel_rays, visible_limits


def rays_of(camera, resolution):
    return pixel_rays(camera.camera_to_world, camera.intrinsics, resolution)


def test_the_middle_ray_follows_the_optical_axis(frontal_camera):
    origins, directions = rays_of(frontal_camera, 3)
    assert_close(origins + 2.7 * directions[:, 4:5], torch.zeros(1, 1, 3))


def test_rows_go_down_and_columns_to_the_right(frontal_camera):
    directions = rays_of(frontal_camera, 4)[1].view(4, 4, 3)
    assert (directions[0, :, 1] > directions[3, :, 1]).all()
    assert (directions[:, 0, 0] < directions[:, 3, 0]).all()


def test_rays_meet_their_pixels(frontal_camera):
    """Projecting points on the rays with the intrinsics, skew included, gives the pixel centres back."""
    lens = frontal_camera.intrinsics.clone()
    lens[:, 0, 1], lens[:, 1, 1] = 0.3, 3.9
    origins, directions = pixel_rays(frontal_camera.camera_to_world, lens, 5)
    world_to_camera = torch.linalg.inv(frontal_camera.camera_to_world)[:, :3]
    points = origins + 2.0 * directions
    seen = points @ world_to_camera[:, :, :3].mT + world_to_camera[:, None, :, 3]
    projected = seen @ lens.mT
    centres = (torch.arange(5) + 0.5) / 5
    assert_close((projected[..., 0] / projected[..., 2]).view(5, 5), centres.expand(5, 5))
    assert_close((projected[..., 1] / projected[..., 2]).view(5, 5), centres[:, None].expand(5, 5))


def test_limits_lie_on_the_faces_of_the_box(frontal_camera):
    origins, directions = rays_of(frontal_camera, 4)
    near, far, valid = box_limits(origins, directions, 1.0)
    assert valid.all()
    for distance in (near, far):
        assert_close((origins + distance * directions).abs().amax(dim=-1), torch.full((1, 16), 0.5))


def test_a_camera_inside_the_box_starts_at_itself():
    near, far = visible_limits(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 1.0]]]), 1.0)
    assert near.item() == 0
    assert_close(far.item(), 0.5)


def test_a_box_behind_the_camera_is_missed():
    near, far = visible_limits(torch.tensor([[[0.0, 0.0, 2.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]]), 1.0)
    assert near.item() == far.item() > 2.5


def test_official_misses_borrow_from_the_rays_that_hit(frontal_camera):
    origins, directions = rays_of(frontal_camera, 4)
    directions = torch.cat([directions, torch.tensor([[[1.0, 0.0, 0.0]]])], dim=1)
    near, far = official_limits(origins, directions, 1.0)
    assert near[0, -1] == near[0, :-1].min() and far[0, -1] == near[0, :-1].max()


def test_without_any_hit_the_official_limits_are_minus_one_and_minus_two(lost_camera):
    near, far = official_limits(*rays_of(lost_camera, 2), 1.0)
    assert (near == -1).all() and (far == -2).all()
