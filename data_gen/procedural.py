"""Clips of the procedural world in the clip format: talking people made by code, with exact masks and coefficients."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_gen.clip_format import FRAME_RATE, ClipContent, write_clip
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.morphable_model import MorphableModel, load_face_model
from modules.face3d.pncc import render_pncc
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.person import sample_person
from modules.procedural.speech import synthesize

CHUNK = 8     # PNCCs rendered together


@dataclass(frozen=True, kw_only=True)
class ProceduralDataConfig:
    """One clip a person; seeds below 100000 are for training, from 900000 on held out."""

    folder: str = "data/procedural/train"
    people: int = 120
    first_seed: int = 0
    frames: int = 40
    size: int = 256
    pncc_size: int = 128      # 0: do not store PNCCs
    workers: int = 2

    def __post_init__(self) -> None:
        if min(self.people, self.frames, self.size, self.workers) < 1 or self.pncc_size < 0:
            raise ValueError(f"people {self.people}, frames {self.frames}, size {self.size} and workers {self.workers} "
                             "must be positive")


def prepare(config: ProceduralDataConfig) -> Iterator[int]:
    """Write the clips that are missing in `config.folder`; first yields how many those are, then each seed done."""
    seeds = range(config.first_seed, config.first_seed + config.people)
    missing = [seed for seed in seeds if not clip_folder(config, seed).is_dir()]
    yield len(missing)
    if config.workers == 1 or len(missing) < 2:
        for seed in missing:
            yield make_clip(config, seed)
        return
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done in as_completed([pool.submit(make_clip, config, seed) for seed in missing]):
            yield done.result()


def clip_folder(config: ProceduralDataConfig, seed: int) -> Path:
    """Where the clip of a person lies."""
    return Path(config.folder) / f"person_{seed:06d}"


def make_clip(config: ProceduralDataConfig, seed: int) -> int:
    """Render and write the clip of one person; returns the seed."""
    model = face_model()
    speech = synthesize(seed, (config.frames + 0.5) / FRAME_RATE)
    motion = sample_motion(seed, config.frames, speech_motion=speech.expression)
    with torch.no_grad():
        clip = render_clip(model, sample_person(seed), motion, config.size)
        face = clip.coefficients
        points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
        pncc = stored_pncc(model, face, config.pncc_size) if config.pncc_size else None
    write_clip(clip_folder(config, seed), ClipContent(
        frames=pixels(clip.frames), classes=clip.classes.numpy(), background=pixels(clip.background[None])[0],
        face=face, face_model=model.name, landmarks=project(points).numpy(), audio=np.asarray(speech.audio), pncc=pncc))
    return seed


def pixels(images: Tensor) -> np.ndarray:
    """[T, 3, H, W] in [-1, 1] -> uint8 [T, H, W, 3]."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def stored_pncc(model: MorphableModel, face: FaceCoefficients, size: int) -> np.ndarray:
    """uint8 [T + 1, 3, size, size]: every frame, then the neutral face."""
    expression = torch.cat([face.expression, torch.zeros_like(face.expression[:1])])
    chunks = [render_pncc(model, face.identity, rows, size) for rows in expression.split(CHUNK)]
    return ((torch.cat(chunks) + 1) * 127.5).round().to(torch.uint8).numpy()


@cache
def face_model() -> MorphableModel:
    """Built once in each process."""
    return load_face_model("procedural")


def _one_thread() -> None:
    torch.set_num_threads(1)
