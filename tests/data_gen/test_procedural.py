import numpy as np
import pytest
import torch

from data_gen.procedural import ProceduralDataConfig, clip_folder, prepare, summary
from modules.clips.format import Clip, list_clips
from modules.face3d.coefficients import pose_points, project
from modules.face_models import load_face_model


@pytest.fixture
def config(tmp_path):
    return ProceduralDataConfig(folder=str(tmp_path), people=2, frames=3, size=48, pncc_size=32, workers=1)


def test_missing_clips_are_made_and_present_ones_kept(config):
    assert list(prepare(config)) == [2, 0, 1]
    assert list(prepare(config)) == [0]
    assert [path.name for path in list_clips(clip_folder(config, 0).parent)] == ["person_000000", "person_000001"]
    assert summary(config).endswith("2 clips of 2 people, 0.0 min of video")


def test_a_clip_agrees_with_its_coefficients(config):
    list(prepare(config))
    clip, model = Clip(clip_folder(config, 1)), load_face_model("procedural")
    points = model.landmarks(clip.face.identity, clip.face.expression, 478)
    expected = project(pose_points(points, clip.face.euler, clip.face.translation))
    np.testing.assert_allclose(clip.landmarks, expected.numpy(), atol=1e-4)
    classes = clip.classes([0])[0]
    x, y = (clip.landmarks[0].mean(axis=0) * 48).astype(int)
    assert classes[y, x] == 3 and {0, 3, 4} <= set(np.unique(classes))
    assert len(clip.audio()) == 3 * 640 and clip.stored_pncc(32).shape == (4, 3, 32, 32)
    assert clip.stored_speech("mel") == (8, "praat") and clip.source == "person 1 of the procedural world"


def test_the_mouth_speaks_and_the_head_moves(config):
    list(prepare(ProceduralDataConfig(**{**vars(config), "people": 1, "frames": 12, "pncc_size": 0})))
    face = Clip(clip_folder(config, 0)).face
    assert face.expression.std(dim=0).max() > 0.02 and face.euler.std(dim=0).max() > 1e-4
    assert torch.isfinite(face.expression).all()


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="frames 0"):
        ProceduralDataConfig(frames=0)
    with pytest.raises(ValueError, match="4096 at most"):
        ProceduralDataConfig(pncc_size=10**30)
