import numpy as np

from modules.rig.plate import background_plate


def test_what_is_seen_stays_and_what_is_hidden_goes_on():
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[..., 0] = np.linspace(50, 200, 512, dtype=np.uint8)[:, None]
    alpha = np.zeros((512, 512), np.float32)
    alpha[200:, 180:330] = 1
    person = picture.copy()
    person[alpha > 0] = (0, 255, 255)
    plate = background_plate(person, alpha)
    far = np.ones((512, 512), bool)
    far[185:, 165:345] = False
    np.testing.assert_allclose(plate[far], picture[far], atol=1e-3)
    assert np.abs(plate - picture)[alpha > 0].mean() < 12  # nothing of the person's 255
    assert np.abs(plate - picture)[alpha > 0].max() < 60


def test_a_person_that_hides_everything_leaves_one_colour_and_any_size_will_do():
    picture = np.full((100, 100, 3), 70, np.uint8)
    plate = background_plate(picture, np.ones((100, 100), np.float32))
    np.testing.assert_allclose(plate, 70, atol=1)
    assert background_plate(picture, np.zeros((100, 100), np.float32)).shape == (100, 100, 3)
