import numpy as np
import pytest
import torch

from modules.face3d.landmark_sets import FACE_OVAL
from modules.rig.config import REFERENCE
from modules.rig.filters import grow, polygon, resized
from modules.rig.interior import PaintedMouth, eyes_texture, opening_texture, without_holes
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


def test_a_painted_mouth_is_dark_in_the_throat_and_has_teeth_where_heads_have_them(puppet):
    mouth = puppet.rig.mouth
    y = float(mouth.bite[1])
    places = torch.tensor([[float(mouth.bite[0]), y + 0.05], [float(mouth.bite[0]), y - 0.08], [0.5, y]])
    ones = torch.ones(3)
    colours = mouth.paint(places, torch.zeros(3, 2), (y + 0.1) * ones, (y - 0.3) * ones)
    assert colours.shape == (3, 3) and (colours >= 0).all() and (colours <= 1).all()
    assert colours[0].mean() > 2 * colours[2].mean()  # an upper tooth and a corner


def test_lower_teeth_go_with_the_chin(puppet):
    mouth = puppet.rig.mouth
    x, y = mouth.bite[:2].tolist()
    place, top, bottom = torch.tensor([[x, y - 0.13]]), torch.tensor([y + 0.1]), torch.tensor([y - 0.14])
    shut = mouth.paint(place, torch.zeros(1, 2), top, bottom)
    dropped = mouth.paint(place, torch.tensor([[0.0, -0.3]]), top, bottom)
    assert shut.mean() > dropped.mean() + 0.05


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
