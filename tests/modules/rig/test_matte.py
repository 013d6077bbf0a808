import numpy as np

from modules.rig.matte import foreground, matte, person_texture, with_face


def scene(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc on a bright ground, and where it is."""
    rows, columns = (np.indices((size, size)) + 0.5) / size - 0.5
    disc = np.hypot(rows, columns) < 0.3
    return np.where(disc[..., None], np.uint8(40), np.uint8([200, 220, 180])).astype(np.uint8), disc


def test_alpha_has_the_edge_of_the_picture_where_the_probability_is_vague():
    picture, disc = scene(512)
    rows, columns = (np.indices((512, 512)) + 0.5) / 512 - 0.5
    vague = np.clip(0.5 + (0.3 - np.hypot(rows, columns)) * 40, 0, 1).astype(np.float32)
    alpha = matte(picture, vague)
    assert np.abs(alpha - disc).mean() < 0.5 * np.abs(vague - disc).mean()
    small = matte(scene(256)[0], vague)
    assert small.shape == (256, 256) and abs(small.mean() - alpha.mean()) < 0.01


def test_what_does_not_hang_together_with_the_face_is_no_part_of_the_person():
    """Neither a second disc nor one joined to the first by smoke alone; the soft outline of the face's own stays."""
    rows, columns = np.indices((512, 512))
    radius = np.hypot(rows - 200, columns - 300)
    own = np.clip((100 - radius) / 10, 0, 1)
    other = (np.hypot(rows - 450, columns - 60) < 40).astype(float)
    smoke = 0.6 * (np.abs(rows - 200 + columns - 300) < 20)
    face = radius < 50
    person = with_face(np.maximum(np.maximum(own, other), smoke).astype(np.float32), face)
    assert person[other > 0].max() == 0
    np.testing.assert_allclose(person[(own > 0) & (smoke == 0)], own[(own > 0) & (smoke == 0)], atol=1e-6)


def test_colours_of_the_person_have_nothing_of_the_background():
    picture, disc = scene(256)
    alpha = np.clip(disc.astype(np.float32), 0, 1)
    colours = foreground(picture, alpha)
    ring = ~disc & (np.hypot(*(np.indices((256, 256)) / 256 - 0.5)) < 0.33)
    assert np.abs(colours[ring] - 40).max() < 8
    np.testing.assert_allclose(colours[disc], 40, atol=1)


def test_the_texture_goes_on_beyond_the_photo_and_fades_but_not_below():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float32)
    texture = person_texture(picture, np.ones((64, 64), np.float32), 8)
    assert texture.shape == (80, 80, 4)
    np.testing.assert_allclose(texture[8:72, 8:72, :3], picture / 255, atol=1e-6)
    alpha = texture[..., 3]
    assert alpha[0].max() == 0 and alpha[:, 0].max() == 0 and alpha[:, -1].max() == 0 and alpha[-1, 40] == 1
