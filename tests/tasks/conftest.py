"""Fixtures of the tests of tasks."""

import pytest

from modules.face3d.morphable_model import MorphableModel
from tests.inference.conftest import checkpoint  # noqa: F401 (a fixture, for the evaluation)
from tests.tasks.small_evaluation import people, same_identity  # noqa: F401 (fixtures)
from tests.tasks.tiny_speech import tiny_face


@pytest.fixture
def face(monkeypatch: pytest.MonkeyPatch) -> MorphableModel:
    """A tiny face model, which the speech stages load too."""
    model = tiny_face()
    monkeypatch.setattr("tasks.stages.speech_stage.load_face_model", lambda name: model)
    return model
