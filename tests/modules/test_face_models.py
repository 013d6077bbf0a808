"""One table names the face models; whatever is in it is accepted everywhere."""

from dataclasses import replace
from functools import partial

import pytest

from data_gen.sources.folder import VideoDataConfig
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import FACE_MODELS, check_face_model, load_face_model
from modules.portrait.driving import DrivingConfig
from modules.system.config import from_dict
from modules.system.errors import UserError
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.a2m import A2MConfig, A2MLossConfig
from tasks.stages.syncnet import SyncNetTaskConfig
from tests.modules.face3d.conftest import face_data

CONFIGS = [
    DrivingConfig,
    ClipDataConfig,
    SyncNetTaskConfig,
    partial(A2MConfig, loss=A2MLossConfig(expression=1.0)),
    partial(VideoDataConfig, videos="raw"),
]


@pytest.fixture
def toy(monkeypatch):
    """A fourth model, in the table as any other; the cache forgets it afterwards."""
    monkeypatch.setitem(FACE_MODELS, "toy", lambda: MorphableModel(replace(face_data(), name="toy")))
    yield "toy"
    load_face_model.cache_clear()


@pytest.mark.parametrize("config", CONFIGS)
def test_a_further_model_is_one_line_of_the_table(config, toy):
    assert config(face_model=toy).face_model == toy
    assert load_face_model(toy).name == toy


@pytest.mark.parametrize("config", CONFIGS)
def test_a_model_that_is_not_in_the_table_is_refused_with_those_that_are(config):
    with pytest.raises(ValueError, match="face_model is 'flame'; use one of bfm, ict, procedural"):
        config(face_model="flame")


def test_a_config_file_says_where_the_wrong_name_stands():
    with pytest.raises(UserError, match="face_model is 'procedual'; use one of bfm, ict, procedural"):
        from_dict(ClipDataConfig, {"face_model": "procedual"})


@pytest.mark.parametrize("name", sorted(FACE_MODELS))
def test_every_name_of_the_table_is_accepted(name):
    check_face_model(name)


def test_a_model_is_loaded_once_and_names_itself():
    assert load_face_model("procedural") is load_face_model("procedural")
    assert load_face_model("procedural").name == "procedural"


def test_an_unknown_model_is_refused_every_time():
    for _ in range(2):
        with pytest.raises(UserError, match="unknown face model 'flame'; use one of bfm, ict, procedural"):
            load_face_model("flame")
