"""Clips of procedural people as videos with sound, to evaluate on where no clips of real people are at hand."""

from pathlib import Path

import numpy as np
import torch

from modules.media.audio import Sound
from modules.media.pixels import to_pixels
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.media.video_writer import VideoWriter
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person
from modules.procedural.speech import synthesize
from modules.system.files import whole_file
from tasks.evaluation.phones import phones_path


def write_procedural_clips(folder: Path, seeds: range, frames: int, size: int) -> None:
    """Write the clips that are missing: person_SEED.mp4, who speaks, and the times of the sounds beside it.

    Args:
        frames: T of each, 25 a second.
        size: S, pixels a side.
    Raises:
        UserError: a file cannot be written.
    """
    for seed in seeds:
        path = folder / f"person_{seed:06d}.mp4"
        if path.is_file():
            continue
        speech = synthesize(seed, (frames + 0.5) / FRAME_RATE)
        motion = sample_motion(seed, frames, speech_motion=speech.expression)
        with torch.no_grad():
            clip = render_clip(procedural_model(), sample_person(seed), motion, size)
        lines = [f"{sound.name}\t{sound.start:.4f}\t{sound.end:.4f}\n" for sound in speech.phonemes]
        with whole_file(phones_path(path)) as part:
            part.write_text("".join(lines), encoding="utf-8")
        sound = Sound.from_samples(np.asarray(speech.audio), SAMPLE_RATE)
        with VideoWriter(path, (size, size), sound=sound) as video:
            for frame in to_pixels(clip.frames):
                video.write(frame)
