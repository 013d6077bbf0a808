import pytest

from data_gen import models
from modules.system.errors import UserError


def test_models_are_loaded_once(monkeypatch):
    assert models.face_model("procedural") is models.face_model("procedural")
    monkeypatch.setattr(models, "load_hubert", lambda source: [source])
    assert models.hubert_model("a network") is models.hubert_model("a network") == ["a network"]
    models.hubert_model.cache_clear()


def test_a_model_that_cannot_be_loaded_is_asked_for_again():
    for _ in range(2):
        with pytest.raises(UserError, match="unknown face model"):
            models.face_model("none")
