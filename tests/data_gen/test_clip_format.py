import numpy as np
import pytest
import torch

from data_gen.clip_format import HEAD_CLASSES, Clip, ClipContent, compose, list_clips, write_clip
from modules.errors import UserError
from modules.face3d.coefficients import FaceCoefficients

FRAMES, SIZE = 12, 32


@pytest.fixture
def content():
    """A clip whose picture is a ramp that gets brighter, with random classes."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 100, SIZE, dtype=np.float32)[None, :, None].repeat(SIZE, 0).repeat(3, 2)
    frames = np.stack([ramp + 10 * t for t in range(FRAMES)]).astype(np.uint8)
    face = FaceCoefficients.neutral(FRAMES).replace(euler=torch.rand(FRAMES, 3))
    return ClipContent(frames=frames, classes=random.integers(0, 6, (FRAMES, SIZE, SIZE), dtype=np.uint8),
                       background=frames[0], face=face, face_model="procedural",
                       landmarks=random.random((FRAMES, 68, 2)), audio=np.zeros(640, np.float32),
                       pncc=np.zeros((FRAMES + 1, 3, 8, 8), np.uint8))


def test_random_frames_are_the_ones_that_were_written(tmp_path, content):
    write_clip(tmp_path / "a", content)
    clip, indices = Clip(tmp_path / "a"), [7, 0, 11, 7]
    assert np.abs(clip.frames(indices).astype(int) - content.frames[indices]).max() <= 4
    assert np.array_equal(clip.classes(indices), content.classes[indices])
    assert len(clip) == FRAMES and clip.face_model == "procedural"
    torch.testing.assert_close(clip.face.euler, content.face.euler)


def test_reading_in_order_gives_the_same_pictures_as_random_access(tmp_path, content):
    write_clip(tmp_path / "a", content)
    clip = Clip(tmp_path / "a")
    assert np.array_equal(np.stack(list(clip.all_frames())), clip.frames(range(FRAMES)))
    assert np.array_equal(np.stack(list(clip.all_classes())), content.classes)
    assert np.array_equal(clip.background, content.background)
    assert len(clip.audio()) == 640 and clip.stored_pncc(8).shape == (FRAMES + 1, 3, 8, 8)
    assert clip.stored_pncc(16) is None


def test_a_clip_that_fails_leaves_nothing_behind(tmp_path, content):
    short = ClipContent(**{**vars(content), "classes": content.classes[:3]})
    with pytest.raises(ValueError, match="3 masks"):
        write_clip(tmp_path / "a", short)
    assert list(tmp_path.iterdir()) == []


def test_compose_keeps_the_pixels_of_the_part(content):
    head = compose(content.frames, content.classes, HEAD_CLASSES)
    inside = np.isin(content.classes, HEAD_CLASSES)
    assert np.array_equal(head[inside], content.frames[inside]) and not head[~inside].any()


def test_missing_clips_are_explained(tmp_path):
    with pytest.raises(UserError, match="no prepared clips"):
        list_clips(tmp_path)
    with pytest.raises(UserError, match="is no prepared clip"):
        Clip(tmp_path)
