"""Tiny settings, tasks and a tiny face for the tests of the speech stages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from modules.audio.audio2motion import Audio2MotionConfig
from modules.audio.features import extract
from modules.audio.syncnet import SyncNetConfig
from modules.clips.format import ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.media.rates import FRAME_RATE
from modules.procedural.speech import synthesize
from tasks.data.speech_clips import SpeechDataConfig
from tasks.stages.a2m import A2MConfig, A2MLossConfig, A2MTask
from tasks.stages.syncnet import SyncNetTask, SyncNetTaskConfig
from tests.modules.face3d.conftest import face_data

DATA = SpeechDataConfig(folder="", seconds=1.28, utterances=64)
A2M = Audio2MotionConfig(
    audio_size=80,
    condition_size=16,
    width=16,
    encoder_layers=1,
    decoder_layers=2,
    flow_width=8,
    flow_layers=1,
    flow_couplings=2,
    downsample="average",
)
SYNC = SyncNetConfig(
    audio_size=80, keypoints="lip", base=8, mouth_base=8, layers_per_block=1, embedding=16, score="logit"
)


def tiny_face() -> MorphableModel:
    return MorphableModel(replace(face_data(), name="procedural"))


def sync_task(**settings: object) -> SyncNetTask:
    """The lip-sync expert on procedural speech; it loads the face model, so tests ask for the fixture `face`."""
    config = SyncNetTaskConfig(model=SYNC, features="mel", face_model="procedural", data=DATA, pairs=64)
    return SyncNetTask(replace(config, **settings), torch.Generator().manual_seed(0))


def a2m_task(loss: A2MLossConfig, **settings: object) -> A2MTask:
    """A2M on procedural speech; it loads the face model, so tests ask for the fixture `face`."""
    config = A2MConfig(model=A2M, features="mel", face_model="procedural", data=DATA, loss=loss, **settings)
    return A2MTask(config, torch.Generator().manual_seed(0))


def write_spoken_clips(folder: Path, clips: int = 3, frames: int = 48) -> None:
    """Clips without pictures: synthetic speech of `frames` video frames, with the motion that goes with it."""
    for number in range(clips):
        utterance = synthesize(number, frames / FRAME_RATE)
        expression = utterance.expression[:frames]
        still = torch.zeros(len(expression), 3)
        audio = utterance.audio.numpy()
        write_clip(
            folder / f"speech_{number}",
            ClipContent(
                frames=None,
                face=FaceCoefficients(torch.zeros(1, 80), expression, still, still),
                face_model="procedural",
                landmarks=np.zeros((len(expression), 0, 2)),
                audio=audio,
                speech={"mel": extract(torch.from_numpy(audio), "mel")},
                person=f"speaker {number}",
            ),
        )
