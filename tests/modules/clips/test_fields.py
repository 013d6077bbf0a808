"""Fields: declared once, filled into finished clips, read by name."""

from pathlib import Path

import numpy as np
import pytest

from modules.clips.fields import FIELDS, Field, add_field, check_fields, field_file, read_field
from modules.clips.format import Clip
from modules.system.errors import UserError
from tests.tasks.tiny_images import write_tiny_clips

FRAMES = 3


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_tiny_clips(tmp_path / "clips", clips=1, frames=FRAMES)
    return next(path.parent for path in (tmp_path / "clips").glob("*/clip.npz"))


def test_every_field_is_filled_into_a_finished_clip_once(clip: Path):
    for name, field in FIELDS.items():
        assert field.what and add_field(clip, name) and not add_field(clip, name)
        assert read_field(Clip(clip), name).shape == (FRAMES, 1)
    brightness = read_field(Clip(clip), "brightness")[:, 0]
    pictures = np.stack(list(Clip(clip).all_frames()))
    assert np.allclose(brightness, pictures.reshape(FRAMES, -1).mean(1) / 255)


def test_the_mouth_opens_as_its_landmarks_do(monkeypatch: pytest.MonkeyPatch, clip: Path):
    points = np.zeros((FRAMES, 478, 2), np.float32)
    points[:, 291, 0] = 0.2  # corners 61 and 291
    points[:, 14, 1] = (0.0, 0.1, 0.2)  # inner lips 13 and 14
    monkeypatch.setattr(Clip, "landmarks", points)
    assert np.allclose(FIELDS["mouth_opening"].compute(Clip(clip))[:, 0], (0, 0.5, 1))


def test_a_field_that_is_missing_or_damaged_says_how_to_add_it(clip: Path):
    with pytest.raises(UserError, match="has no brightness; add it: python -m data_gen.run CONFIG .* --add brightness"):
        read_field(Clip(clip), "brightness")
    field_file(clip, "brightness").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        read_field(Clip(clip), "brightness")
    np.save(field_file(clip, "brightness"), np.zeros((FRAMES + 1, 1)))
    with pytest.raises(UserError, match="4 rows for 3 frames"):
        read_field(Clip(clip), "brightness")
    with pytest.raises(ValueError, match="did you mean brightness"):
        check_fields(["brightnes"])


def test_a_field_with_a_wrong_number_of_rows_is_refused(monkeypatch: pytest.MonkeyPatch, clip: Path):
    monkeypatch.setitem(FIELDS, "wrong", Field("wrong", lambda clip: np.zeros((1, 1))))
    with pytest.raises(ValueError, match="1 rows"):
        add_field(clip, "wrong")
    assert not field_file(clip, "wrong").exists()
