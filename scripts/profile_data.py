"""Where the time of preparing a video goes, step by step, on one core: python -m scripts.profile_data VIDEO

    python -m scripts.profile_data talk.mp4 face_model=ict
    python -m scripts.profile_data talk.mp4 face_model=ict landmarks=both --frames 250

Settings are those of configs/data/videos.yaml. Seconds are those of the process on any core, so that other processes
count little; the table ends with the hours that CelebV-HQ and VoxCeleb2 would take at this rate. Models are opened
before, but the tracker, which every clip opens.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from data_gen.audio_track import AudioTrack, speech_features
from data_gen.faces import FittedFace, fit_face
from data_gen.segments import find_segments
from data_gen.sound_offset import lip_sync, sound_in_step
from data_gen.sources.folder import VideoDataConfig
from modules.analysis.clip_segmentation import segment_clip
from modules.analysis.inpainting import inpaint_background, inpaint_torso
from modules.audio.features import AudioFeatures
from modules.clips.format import ClipContent, write_clip
from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE
from modules.media.video_reader import open_video
from modules.system.config import from_dict, load_yaml
from modules.system.errors import UserError, run_command

VIDEO_SETTINGS = Path(__file__).parents[1] / "configs" / "data" / "videos.yaml"
FEWEST = 25  # frames of which a rate can be told
NOT_COUNTED = ("decoding",)  # in the sum that is compared between versions of this code
# The steps that look at faces: those for which a goal is set.
LOOKING = (
    "landmarks, faces counted",
    "fit of the face model",
    "crop and masks",
    "background",
    "torso (composed when read)",
)
DATA_SETS = {"CelebV-HQ": 65.0, "VoxCeleb2": 2000.0}  # hours of video
Pairs = tuple[list[np.ndarray], list[np.ndarray], np.ndarray]  # pictures, classes, background
Sounds = tuple[np.ndarray | None, dict[str, AudioFeatures]]


@dataclass
class StepTimes:
    """Processor seconds by step, in the order in which the steps began."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what is spent inside to a step."""
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def profile(video: Path, config: VideoDataConfig, most: int) -> tuple[int, dict[str, float]]:
    """Prepare up to `most` frames of a video in a folder that is deleted: frames of the clip, seconds of each step.

    Raises:
        UserError: the video cannot be read, or shows no face for `FEWEST` frames.
    """
    times = StepTimes()
    model = load_face_model(config.face_model)
    with times.step("decoding"):
        frames = list(islice(open_video(video)[1], most))
    list(find_segments(iter(frames[:2]), video.name, 2, config.landmarks))  # opens the models
    with times.step("landmarks, faces counted"):
        segments = list(find_segments(iter(frames), video.name, most, config.landmarks))
    piece = max((s for s in segments if s.landmarks is not None), key=lambda s: s.length, default=None)
    if piece is None or piece.length < FEWEST:
        raise UserError(f"{video.name} has no {FEWEST} frames in a row with one face; use another video")
    with times.step("fit of the face model"):
        fitted = fit_face(model, piece.landmarks, piece.shape, config.limits)
    if config.offset.check != "off":
        lip_sync(config.offset.syncnet)
    with times.step("offset of the sound"):
        wave, _ = sound_in_step(
            AudioTrack(video), piece.start, fitted.face, config.face_model, fitted.landmarks, config.offset
        )
    with times.step("mel and pitch"):
        speech = speech_features(wave, ("mel",), config.feature_sources)
    pairs = _pictures(times, frames[piece.start : piece.stop], fitted, config)
    with times.step("writing (H.264, FFV1)"), tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder, "clip"), _content(pairs, fitted, config, (wave, speech)))
    return piece.length, times.seconds


def _pictures(times: StepTimes, frames: list[np.ndarray], fitted: FittedFace, config: VideoDataConfig) -> Pairs:
    """The square of every frame, its classes, and the background."""
    list(segment_clip(frames[:1], fitted.box, fitted.landmarks, config.size))  # opens the models
    with times.step("crop and masks"):
        pictures, classes = zip(*segment_clip(frames, fitted.box, fitted.landmarks, config.size))
    with times.step("background"):
        background = inpaint_background(pictures, classes, config.inpainting)
    with times.step("torso (composed when read)"):
        for picture, mask in zip(pictures, classes):
            inpaint_torso(picture, mask)
    return list(pictures), list(classes), background


def _content(pairs: Pairs, fitted: FittedFace, config: VideoDataConfig, sound: Sounds) -> ClipContent:
    (pictures, classes, background), (wave, speech) = pairs, sound
    return ClipContent(
        frames=pictures,
        classes=classes,
        background=background,
        face=fitted.face,
        face_model=config.face_model,
        landmarks=fitted.landmarks,
        audio=wave,
        speech=speech,
    )


def table(frames: int, seconds: dict[str, float]) -> str:
    """Seconds of the steps of `frames` frames as Markdown: milliseconds a frame and shares."""
    total = sum(seconds.values())
    counted = sum(value for name, value in seconds.items() if name not in NOT_COUNTED)
    lines = ["| step | ms of one core a frame | share |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {1000 * v / frames:.2f} | {100 * v / total:.0f} % |" for name, v in seconds.items()]
    looking = sum(seconds.get(name, 0.0) for name in LOOKING)
    lines.append(
        f"| landmarks, masks, fit, composition | {1000 * looking / frames:.2f} | {100 * looking / total:.0f} % |"
    )
    lines.append(f"| all | {1000 * total / frames:.2f} | 100 % |")
    lines.append(f"| all but decoding | {1000 * counted / frames:.2f} | {100 * counted / total:.0f} % |")
    hours = ", ".join(f"{name} {core_hours(length, total / frames):.0f}" for name, length in DATA_SETS.items())
    return "\n".join([*lines, "", f"core-hours at this rate: {hours}"])


def core_hours(hours: float, seconds_a_frame: float) -> float:
    """Hours of one core for `hours` of video."""
    return hours * FRAME_RATE * seconds_a_frame


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 2 after an error that the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m scripts.profile_data", description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of configs/data/videos.yaml")
    parser.add_argument("--frames", type=int, default=250, help="at most (default: %(default)s)")
    options = parser.parse_intermixed_args(arguments)

    def body() -> None:
        if options.frames < FEWEST:
            raise UserError(f"--frames is {options.frames}; give {FEWEST} or more")
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        settings = load_yaml(VIDEO_SETTINGS, [*options.overrides, f"videos={options.video}"])
        settings.pop("source")
        frames, seconds = profile(options.video, from_dict(VideoDataConfig, settings), options.frames)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"{options.video.name}: {frames} frames, load {load:.1f}\n\n{table(frames, seconds)}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
