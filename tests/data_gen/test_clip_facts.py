from dataclasses import replace

import numpy as np
import pytest
import torch

from data_gen.clip_facts import LOOKED_AT, loudness, read_facts
from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face_models import load_face_model

FRAMES = 60


@pytest.fixture
def content() -> ClipContent:
    """A clip without pictures of a face that turns from 0 to 30 degrees, with the landmarks of its fit."""
    model = load_face_model("procedural")
    face = FaceCoefficients.neutral(FRAMES)
    euler = torch.zeros(FRAMES, 3)
    euler[:, 1] = torch.deg2rad(torch.linspace(0, 30, FRAMES))
    face = face.replace(euler=euler, expression=torch.full((FRAMES, 64), 0.5))
    points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
    return ClipContent(
        frames=None,
        face=face,
        face_model="procedural",
        landmarks=project(points).numpy(),
        audio=np.full(640 * FRAMES, 0.1, np.float32),
        person="somebody",
        licence="of the test",
    )


def test_a_clip_is_measured(content, tmp_path):
    write_clip(tmp_path / "a_000000", content)
    facts = read_facts(tmp_path / "a_000000")
    assert (facts.person, facts.licence, facts.seconds, facts.has_pictures) == ("somebody", "of the test", 2.4, False)
    assert facts.angles.shape == (LOOKED_AT, 3) and facts.angles[[0, -1], 1] == pytest.approx([0, 30], abs=1e-4)
    assert facts.expression == pytest.approx(np.full(LOOKED_AT, 0.5))
    assert np.isnan(facts.sound_late)
    assert facts.error < 1e-6 and facts.loudness == pytest.approx(-20, abs=0.01)
    assert facts.face[0] == pytest.approx(np.ptp(content.landmarks[0, :, 0]), abs=1e-6)


def test_how_late_the_sound_was_is_kept(content, tmp_path):
    write_clip(tmp_path / "a_000000", replace(content, sound_late=-2.5))
    assert read_facts(tmp_path / "a_000000").sound_late == -2.5


def test_a_fit_that_is_off_has_the_error_by_which_it_is(content, tmp_path):
    eyes = np.linalg.norm(content.landmarks[0, 33] - content.landmarks[0, 263])
    still = content.face.replace(euler=torch.zeros(FRAMES, 3))
    moved = np.repeat(content.landmarks[:1], FRAMES, axis=0) + (0.1 * eyes, 0)
    write_clip(tmp_path / "a_000000", replace(content, face=still, landmarks=moved))
    assert read_facts(tmp_path / "a_000000").error == pytest.approx(0.1, rel=1e-3)


def test_without_landmarks_sound_or_model_nothing_is_claimed(content, tmp_path):
    write_clip(tmp_path / "a_000000", replace(content, landmarks=np.zeros((FRAMES, 0, 2)), audio=None))
    write_clip(tmp_path / "b_000000", replace(content, face_model="of another machine"))
    facts = read_facts(tmp_path / "a_000000")
    assert len(facts.face) == 0 and np.isnan([facts.error, facts.loudness]).all()
    assert np.isnan(read_facts(tmp_path / "b_000000").error)


@pytest.mark.parametrize("wave", [None, np.zeros(640, np.float32), np.full(640, 1e-4, np.float32)])
def test_silence_has_no_loudness(wave):
    assert np.isnan(loudness(wave))
