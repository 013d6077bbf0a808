import numpy as np
import pytest
import torch

from modules.procedural.painting import SurfacePoints, lip_edges, mix, noise, paint_eyes, paint_hair, paint_skin, step
from modules.procedural.person import sample_person
from modules.procedural.template import lip_heights, lip_line


def surface(paint: list[list[float]], lip: float = 0.0) -> SurfacePoints:
    count = len(paint)
    normal = torch.tensor([[0.0, 0.0, 1.0]]).repeat(count, 1)
    return SurfacePoints(torch.tensor(paint), normal, torch.full((count,), lip))


@pytest.fixture
def person():
    return sample_person(1)  # a woman with painted lips


def test_painted_lips_are_where_the_mesh_has_them():
    x = np.linspace(0, 0.24, 9)
    line, high, low = lip_edges(torch.from_numpy(x))
    np.testing.assert_allclose(line.numpy(), lip_line(x), atol=1e-9)
    np.testing.assert_allclose(high.numpy(), lip_heights(x)[0], atol=2e-3)
    np.testing.assert_allclose(low.numpy(), lip_heights(x)[1], atol=1e-9)


def test_lips_are_redder_than_the_chin_and_left_is_painted_like_right(person):
    colour, _, _ = paint_skin(surface([[0.05, -0.47, 0.6], [0.05, -0.75, 0.55], [-0.05, -0.47, 0.6]]), person)
    ratio = colour[:, 0] / colour[:, 1]
    assert ratio[0] > 1.2 * ratio[1]
    assert (colour[0] - colour[2]).abs().max() < 0.03


def test_hair_grows_behind_the_hair_line_only(person):
    _, _, scalp = paint_skin(surface([[0.0, 1.2, 0.0], [0.0, 0.6, 0.5], [0.3, -0.3, 0.4]]), person)
    assert scalp[0] > 0.95 and scalp[1:].max() < 0.05


def test_the_pupil_is_black_and_the_white_is_white(person):
    pupil, white = paint_eyes(surface([[0.0, 0.0, 1.0], [0.5, 0.0, 0.86]]), person)
    assert pupil.max() < 0.05 and white.min() > 0.75


def test_hair_ends_are_open_and_its_crown_is_closed(person):
    around = torch.tensor([np.cos(2.5), np.sin(2.5)]).tolist()
    _, cover = paint_hair(surface([[*around, 0.3], [*around, 1.0]]), person)
    assert cover[0] == 1 and cover[1] < 0.2


def test_noise_is_smooth_bounded_and_follows_its_phase():
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    value = noise(points, 3.0, 1.0)
    assert value.mean().abs() < 0.2 and 0.4 < value.std() < 1.5
    assert (noise(points + 1e-4, 3.0, 1.0) - value).abs().max() < 0.01
    assert (noise(points, 3.0, 2.0) - value).abs().mean() > 0.3


def test_mix_and_step_stop_at_their_ends():
    assert step(torch.tensor([-1.0, 2.0]), 0.0, 1.0).tolist() == [0, 1]
    assert mix(torch.zeros(1, 3), torch.ones(3), torch.tensor([4.0])).tolist() == [[1, 1, 1]]
