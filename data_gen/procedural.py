"""Clips of the procedural world in the clip format: talking procedural people, with exact masks and coefficients."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_gen.audio_track import speech_features
from modules.clips.format import ClipContent, check_sides, write_clip
from modules.clips.pncc import all_pncc
from modules.face3d.coefficients import pose_points, project
from modules.face_models import load_face_model
from modules.media.pixels import to_pixels
from modules.media.rates import FRAME_RATE
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.person import sample_person
from modules.procedural.speech import synthesize
from modules.system.processes import Engine, run_all


@dataclass(frozen=True, kw_only=True)
class ProceduralDataConfig:
    """One clip for each person; seeds below 100000 are for training, those from 900000 on are held out."""

    folder: str = "data/procedural/train"  # to write the clips into
    people: int = 120  # one clip of each
    first_seed: int = 0  # of the first person
    frames: int = 40  # of a clip, 25 a second
    size: int = 256  # pixels a side
    pncc_size: int = 128  # 0: do not store PNCCs
    workers: int = 2  # processes

    def __post_init__(self) -> None:
        if min(self.people, self.frames, self.size, self.workers) < 1 or min(self.pncc_size, self.first_seed) < 0:
            raise ValueError(
                f"people {self.people}, frames {self.frames}, size {self.size} and workers {self.workers} "
                f"must be positive, pncc_size {self.pncc_size} and first_seed {self.first_seed} not negative"
            )
        check_sides(self.size, self.pncc_size)

    @property
    def seeds(self) -> range:
        """Seeds of the people."""
        return range(self.first_seed, self.first_seed + self.people)


def prepare(config: ProceduralDataConfig, engine: Engine = run_all) -> Iterator[int]:
    """Write the clips that are missing in `config.folder`; first yields their number, then each seed when done."""
    missing = [seed for seed in config.seeds if not clip_folder(config, seed).is_dir()]
    yield len(missing)
    yield from engine(partial(make_clip, config), missing, config.workers)


def summary(config: ProceduralDataConfig) -> str:
    """Counts of what `folder` holds of these people, in one line."""
    count = sum(clip_folder(config, seed).is_dir() for seed in config.seeds)
    return (
        f"{config.folder}: {count} clips of {count} people, {count * config.frames / FRAME_RATE / 60:.1f} min of video"
    )


def clip_folder(config: ProceduralDataConfig, seed: int) -> Path:
    """The folder of the clip of a person."""
    return Path(config.folder) / f"person_{seed:06d}"


def make_clip(config: ProceduralDataConfig, seed: int) -> int:
    """Render and write the clip of one person; returns the seed."""
    model = load_face_model("procedural")
    speech = synthesize(seed, (config.frames + 0.5) / FRAME_RATE)
    motion = sample_motion(seed, config.frames, speech_motion=speech.expression)
    with torch.no_grad():
        clip = render_clip(model, sample_person(seed), motion, config.size)
        face = clip.coefficients
        points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
        pncc = all_pncc(model, face, config.pncc_size) if config.pncc_size else None
    wave = np.asarray(speech.audio)
    write_clip(
        clip_folder(config, seed),
        ClipContent(
            frames=to_pixels(clip.frames),
            classes=clip.classes.numpy(),
            background=to_pixels(clip.background[None])[0],
            face=face,
            face_model=model.name,
            landmarks=project(points).numpy(),
            audio=wave,
            speech=speech_features(wave, ("mel",)),
            pncc=pncc,
            source=f"person {seed} of the procedural world",
            licence="made by code, free to use",
            person=clip_folder(config, seed).name,
        ),
    )
    return seed
