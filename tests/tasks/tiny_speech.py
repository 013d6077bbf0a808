"""Tiny settings and a tiny face for the tests of the audio stages."""

from dataclasses import replace

import pytest

from modules.audio.audio2motion import Audio2MotionConfig
from modules.audio.syncnet import SyncNetConfig
from modules.face3d.morphable_model import MorphableModel
from tasks.data.speech_clips import SpeechDataConfig
from tests.modules.face3d.conftest import face_data

DATA = SpeechDataConfig(folder="", seconds=1.28, utterances=64)
A2M = Audio2MotionConfig(audio_size=80, condition_size=16, width=16, encoder_layers=1, decoder_layers=2, flow_width=8,
                         flow_layers=1, flow_couplings=2, downsample="average")
SYNC = SyncNetConfig(audio_size=80, keypoints="lip", base=8, mouth_base=8, layers_per_block=1, embedding=16,
                     score="logit")


def tiny_face() -> MorphableModel:
    return MorphableModel(replace(face_data(), name="procedural"))


@pytest.fixture
def face(monkeypatch) -> MorphableModel:
    """The tiny face, also for the tasks."""
    model = tiny_face()
    monkeypatch.setattr("tasks.stages.speech_stage.load_face_model", lambda name: model)
    return model
