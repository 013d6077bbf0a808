import numpy as np

from tasks.evaluation.similarity import moved_frames


def test_the_head_moves_and_the_torso_stands() -> None:
    size, generator = 64, np.random.default_rng(1)
    picture = generator.integers(0, 255, (size, size, 3), np.uint8)
    classes = np.zeros((size, size), np.uint8)
    classes[16:36, 20:44], classes[44:, 10:54] = 3, 4  # face, clothes, and a gap, so that nothing is filled in
    landmarks = generator.uniform(0.3, 0.6, (478, 2))
    tracks = np.stack([landmarks, landmarks + (8 / size, 0), np.full((478, 2), np.nan)])
    first, moved, lost = (frame.astype(int) for frame in moved_frames(picture, classes, landmarks, tracks))
    inside = np.s_[20:32, 24:40]
    assert np.abs(first[inside] - picture[inside]).max() <= 2
    assert np.abs(moved[20:32, 32:48] - picture[inside]).max() <= 2  # 8 pixels to the right
    assert np.array_equal(moved[50:], picture[50:]) and np.array_equal(lost, moved)
