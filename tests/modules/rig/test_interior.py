import numpy as np
import pytest
import torch

from modules.face3d.landmark_sets import FACE_OVAL
from modules.rig.config import REFERENCE
from modules.rig.filters import grow, polygon, resized
from modules.rig.interior import Opening, PaintedMouth, eyes_texture, opening_texture, without_holes
from modules.rig.landmark_mesh import MOUTH_RING, RIGHT_EYE_RING


def test_eyes_are_the_photos_inside_and_go_on_outside(puppet):
    picture, places = puppet.photo.picture, puppet.photo.landmarks
    texture = eyes_texture(picture, places)
    ring = polygon(places[list(RIGHT_EYE_RING)], 256)
    assert np.abs(texture - picture / 255.0)[ring].mean() < 0.06
    assert np.isfinite(texture).all() and 0 <= texture.min() and texture.max() <= 1


def test_the_open_mouth_is_the_photos_inside_and_goes_on_a_little_under_the_lips(puppet):
    picture, places = puppet.photo.picture.copy(), puppet.photo.landmarks.copy()
    places[list(MOUTH_RING[10:])] += (0, 0.05)
    size = len(picture)
    mouth = polygon(places[list(MOUTH_RING)], size)
    picture[mouth] = (200, 100, 50)
    texture = opening_texture(picture, places)
    share, colours = texture[..., 3], texture[..., :3]
    assert texture.shape == (size, size, 4) and 0 <= texture.min() and texture.max() <= 1
    assert share[mouth].min() > 0.8 and share[~grow(mouth, size // 5)].max() == 0
    rim = grow(mouth, 3) & ~mouth
    assert share[rim].mean() > 0.5
    assert np.abs(colours[rim] * 255 - (200, 100, 50)).mean() < 8  # not the lips'


def test_a_shut_mouth_has_next_to_no_share(puppet):
    shut = opening_texture(puppet.photo.picture, puppet.photo.landmarks)[..., 3].sum()
    places = puppet.photo.landmarks.copy()
    places[list(MOUTH_RING[10:])] += (0, 0.05)
    assert opening_texture(puppet.photo.picture, places)[..., 3].sum() > shut + 200


def test_where_lips_meet_no_teeth_shine_through(puppet):
    picture = np.full((REFERENCE, REFERENCE, 3), (150, 60, 60), np.float32)
    places = puppet.photo.landmarks.copy()
    places[list(MOUTH_RING[10:])] += (0, 0.05)
    mouth = polygon(places[list(MOUTH_RING)], REFERENCE)
    picture[mouth] = 250
    filled = without_holes(picture, places)
    assert np.abs(filled[mouth] - (150, 60, 60)).max() < 5
    assert np.array_equal(filled[~grow(mouth, 3)], picture[~grow(mouth, 3)])


def painted(mouth: PaintedMouth, places, chin=(0.0, 0.0), lips=(0.1, -0.1), pixel=0.005, half=0.25):
    """Colours at places [N, 2] dm from the bite, of one frame whose lips and corners stand so far from it."""
    x, y = mouth.bite[:2].tolist()
    corners = (torch.tensor([[x - half, y]]), torch.tensor([[x + half, y]]))
    opening = Opening(torch.tensor([chin]), *corners, y + torch.tensor([lips]))
    places = torch.as_tensor(places, dtype=torch.float32)
    return mouth.paint(places + mouth.bite[:2], torch.zeros(len(places), dtype=torch.long), opening, pixel)


def test_a_painted_mouth_is_dark_at_the_back_and_has_teeth_where_heads_have_them(puppet):
    tooth, corner, back = painted(puppet.rig.mouth, [[0.04, 0.05], [0.24, 0.0], [0.0, -0.05]], (0.0, -0.2), (0.1, -0.3))
    assert 0 <= min(tooth.min(), corner.min(), back.min()) and max(tooth.max(), corner.max(), back.max()) <= 1
    assert tooth.mean() > 1.5 * corner.mean() and tooth.mean() > 1.5 * back.mean()
    assert back.min() > 0.05  # dark, but not black


def test_lines_between_teeth_are_dark_and_fade_when_they_are_thinner_than_a_pixel(puppet):
    places = [[0.0, 0.04], [0.0425, 0.04]]  # between the middle teeth, and the middle of one
    line, tooth = painted(puppet.rig.mouth, places, pixel=0.0025).mean(1)
    coarse_line, coarse_tooth = painted(puppet.rig.mouth, places, pixel=0.02).mean(1)
    assert line < 0.9 * tooth
    assert coarse_line / coarse_tooth > line / tooth + 0.1


def test_coarse_frames_do_not_flicker(puppet):
    """The light of a row of teeth hardly depends on where in them the pixels of a small frame lie."""
    step = 0.02
    phases = torch.arange(8) * step / 8
    x = torch.arange(-0.15, 0.15, step) + phases[:, None]
    places = torch.stack([x, torch.full_like(x, 0.04)], dim=-1).flatten(0, 1)
    fine, coarse = (painted(puppet.rig.mouth, places, pixel=p).view(*x.shape, 3).mean(1).std(0) for p in (0.0025, step))
    assert (coarse < 0.5 * fine).all()


def test_lower_teeth_go_with_the_chin(puppet):
    places, lips = [[0.025, -0.04]], (0.1, -0.06)
    shut, dropped = (painted(puppet.rig.mouth, places, (0.0, fall), lips).mean() for fall in (0.0, -0.2))
    assert shut > dropped + 0.05


def test_a_lip_that_comes_down_without_the_chin_bares_no_more_than_the_tops_of_the_lower_teeth(puppet):
    near, far = (painted(puppet.rig.mouth, [[0.025, -0.04]], lips=(0.1, bottom)).mean() for bottom in (-0.06, -0.2))
    assert near > far + 0.05


def test_teeth_are_darker_near_the_upper_lip_and_near_the_corners(puppet):
    mouth, middle, side = puppet.rig.mouth, [[0.04, 0.04]], [[0.12, 0.03]]
    assert painted(mouth, middle, lips=(0.045, -0.1)).mean() < 0.9 * painted(mouth, middle).mean()
    narrow, wide = (painted(mouth, side, lips=(0.3, -0.3), half=half).mean() for half in (0.15, 0.25))
    assert narrow < 0.9 * wide


def test_each_frame_is_painted_with_its_own_opening(puppet):
    mouth = puppet.rig.mouth
    corners = (torch.tensor([[-0.25, 0.0], [-0.2, 0.0]]), torch.tensor([[0.25, 0.0], [0.2, 0.05]]))
    chin, lips = torch.tensor([[0.0, 0.0], [0.02, -0.1]]), torch.tensor([[0.08, -0.1], [0.1, -0.3]])
    places = 0.1 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    frames = torch.arange(50) % 2
    shift = mouth.bite[:2]
    both = Opening(chin, *(corner + shift for corner in corners), lips + shift[1])
    second = Opening(*(values[1:] for values in (both.chin, both.right, both.left, both.lips)))
    together = mouth.paint(places + shift, frames, both, 0.005)
    alone = mouth.paint(places[1::2] + shift, torch.zeros(25, dtype=torch.long), second, 0.005)
    assert torch.allclose(together[1::2], alone, atol=1e-5)


def test_the_rims_go_through_corners_and_middles_of_the_lips():
    opening = Opening(
        torch.zeros(1, 2), torch.tensor([[-0.2, 0.1]]), torch.tensor([[0.3, 0.0]]), torch.tensor([[0.2, -0.1]])
    )
    middle, across, rise, *parabolas = opening.rims()[:, 0]
    assert torch.allclose(
        (torch.tensor([-0.2, 0.05, 0.3]) - middle) * across, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6
    )
    for (height, bend), lip in zip((parabolas[:2], parabolas[2:]), (0.2, -0.1)):
        heights = torch.stack([height - rise + bend, height, height + rise + bend])
        assert torch.allclose(heights, torch.tensor([0.1, lip, 0.0]), atol=1e-6)


def test_teeth_are_never_brighter_than_the_brightest_of_the_face(puppet):
    dim = resized(puppet.photo.picture, REFERENCE) * 0.4
    oval = polygon(puppet.photo.landmarks[list(FACE_OVAL)], REFERENCE)
    mouth = PaintedMouth.of_photo(dim, puppet.photo.landmarks, oval, torch.zeros(478, 3))
    assert mouth.teeth.mean() * 255 <= dim[oval].mean(1).max() + 4
    assert mouth.teeth.mean() < puppet.rig.mouth.teeth.mean()


@pytest.mark.parametrize(("brightness", "shown"), ((235, True), (40, False)))
def test_a_mouth_that_shows_bright_teeth_is_used_and_a_dim_slit_is_not(puppet, brightness: int, shown: bool):
    places = puppet.photo.landmarks.copy()
    places[list(MOUTH_RING[10:])] += (0, 0.04)  # the lower lip comes down
    picture = resized(puppet.photo.picture, REFERENCE).astype(np.float32)
    picture[polygon(places[list(MOUTH_RING)], REFERENCE)] = brightness
    oval = polygon(places[list(FACE_OVAL)], REFERENCE)
    mouth = PaintedMouth.of_photo(picture, places, oval, torch.zeros(478, 3))
    assert (abs(float(mouth.teeth.mean()) * 255 - brightness) < 2) == shown
    assert (mouth.least_gap < 0.05) == shown
