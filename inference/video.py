"""The video that the options of `inference.run` ask for: portrait, motion and background, rendered and written."""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from inference.background import load_background
from inference.gltf import write_mesh
from inference.layers import LayerWriter
from inference.live_speech import LiveConfig
from inference.motion import MOTION_FILES, Drawing, Motion
from inference.options import DEMO_SPEECH, POSES, RIG_SIZE
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.rig import RigPainter
from inference.speech import SpeechStyle
from modules.geometry.trajectory import mirror_index
from modules.media.audio import Sound, read_sound
from modules.media.endings import STILLS
from modules.media.picture_writer import open_output
from modules.media.pixels import to_pixels
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError, note
from modules.system.interrupts import Interrupts
from modules.system.progress import with_progress

DEMO_PERSON = 900007  # seed of a procedural person that no training saw


def make_video(
    options: argparse.Namespace, load: Callable[..., TalkingPortrait] = TalkingPortrait.load
) -> tuple[str, str | None]:
    """Make and write what the options, which `inference.options.check` has seen, ask for.

    Args:
        load: `TalkingPortrait.load`, or one that remembers.
    Returns:
        Where it is and how long, in one line; and something the user should know, or None.
    Raises:
        UserError: an input cannot be used, or the video cannot be written.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    began = time.monotonic()
    pipeline = load(options.checkpoint, options.device, options.precision, options.hubert, options.march)
    rig = options.renderer == "rig"
    if not rig:
        pipeline.with_networks()  # what is missing is said before a photo is analysed
    if options.background != "photo" and pipeline.config.stage < 3 and not rig:
        raise UserError(
            f"--background is for checkpoints of stage 3; {options.checkpoint} is of stage {pipeline.config.stage}, "
            "which draws the head alone"
        )
    size = (options.size or RIG_SIZE) if rig else pipeline.size
    background = load_background(options.background, size)
    source = DEMO_PERSON if options.source is None else options.source
    painter = pipeline.painter(source, options.renderer, options.size, options.face, options.inpainting, options.anyway)
    motion, sound = make_motion(options, pipeline)
    motion = shortened(motion, options)
    if options.save_motion:
        motion.save(options.save_motion)
    if options.mesh:
        write_mesh(options.mesh, pipeline.face_model, painter, motion)
    if options.output.exists():
        note(f"{options.output} is there and will be replaced")
    writer = layer_writer(options, painter, background)
    frames = make_frames(options, pipeline, painter, motion, background, writer)
    with writer or nullcontext():  # outside, so that no layers are there without their video
        first = next(frames)
        with (
            Interrupts() as interrupts,
            open_output(options.output, size=first.shape[1::-1], alpha=first.shape[2] == 4, sound=sound) as video,
        ):
            for frame in with_progress(chain([first], frames), len(motion)):
                interrupts.check()
                video.write(frame)
            interrupts.check()
    what = "a still" if options.output.suffix.lower() in STILLS else f"{len(motion)} frames"
    length = f"{len(motion) / FRAME_RATE:.2f} s"
    seconds = time.monotonic() - began
    shape = f"{first.shape[1]} x {first.shape[0]}"
    chosen = f", networks in {str(pipeline.dtype).removeprefix('torch.')}" if options.precision == "auto" else ""
    return f"{options.output}: {what} of {shape}, {length}, in {seconds:.0f} s{chosen}", video.note


def make_frames(
    options: argparse.Namespace,
    pipeline: TalkingPortrait,
    painter: RigPainter | Portrait,
    motion: Motion,
    background: torch.Tensor | str | None,
    writer: LayerWriter | None,
) -> Iterator[np.ndarray]:
    """The frames, drawn by the networks or by the rig, uint8 [H, W, 3 or 4]; their layers go to the writer."""
    given = (painter, motion, background, options.batch, options.pose_mode)
    if writer is not None:
        return writer.frames(pipeline.layered_frames(*given))
    return pipeline.debug_frames(*given) if options.debug_video else pipeline.frames(*given)


def layer_writer(
    options: argparse.Namespace, painter: RigPainter | Portrait, background: torch.Tensor | str | None
) -> LayerWriter | None:
    """For --layers; the background goes with them unless it is transparent."""
    if options.layers is None:
        return None
    if background == "transparent":
        return LayerWriter(options.layers)
    if isinstance(painter, RigPainter):
        return LayerWriter(options.layers, painter.background(background))
    return LayerWriter(options.layers, to_pixels(painter.background if background is None else background)[0])


def shortened(motion: Motion, options: argparse.Namespace) -> Motion:
    """The first --seconds of a motion; for a still without them its first frame."""
    if options.seconds is not None:
        return motion[: max(1, math.ceil(options.seconds * FRAME_RATE))]
    return motion[:1] if options.output.suffix.lower() in STILLS else motion


def make_motion(options: argparse.Namespace, pipeline: TalkingPortrait) -> tuple[Motion, Sound | None]:
    """The motion that the options ask for and the sound that goes with it."""
    if options.motion:
        motion = pipeline.check_motion(Motion.load(options.motion, pipeline.face_model.name))
        return motion, read_sound(options.sound) if options.sound else None
    if options.driving:
        return pipeline.motion_from_clip(options.driving, options.driving_face), read_sound(
            options.driving, optional=True
        )
    audio = options.audio or DEMO_SPEECH
    drawing = Drawing.of_seed(options.seed)
    motion = _spoken(options, pipeline, audio, drawing.lips)
    named = options.pose in POSES
    motion = drawing.moved(motion, options.pose if named else "still", options.blink == "period")
    if not named:
        pose = pose_from_file(pipeline, Path(options.pose), len(motion), options.driving_face)
        motion = motion.with_pose(*pose, relative=False)
    return motion, read_sound(audio, beside_pictures=False)  # as the motion was made from it


def pose_from_file(
    pipeline: TalkingPortrait, path: Path, frames: int, which: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Head pose of a clip or of a motion file, played forwards and backwards until `frames` are filled.

    Angles and decimetres mean the same in every face model, so the motion may be of another one; its 25 frames a second
    are checked when it is read, and clips are resampled to them. `which` as in `TalkingPortrait.fit`.

    Returns:
        Euler angles [frames, 3] in radians and translations [frames, 3] in decimetres.
    """
    source = Motion.load(path) if path.suffix.lower() in MOTION_FILES else pipeline.fit(path, which)
    index = mirror_index(torch.arange(frames), len(source))
    return source.euler[index], source.translation[index]


def _spoken(options: argparse.Namespace, pipeline: TalkingPortrait, audio: Path, generator: torch.Generator) -> Motion:
    """The lips of a speech, heard as a whole or as a session hears it."""
    if options.look_ahead is None:
        style = SpeechStyle(
            temperature=options.temperature, mouth_amplitude=options.mouth_amplitude, blinks=options.blink == "model"
        )
        return pipeline.motion_from_speech(audio, generator, style)
    config = LiveConfig(
        look_ahead=options.look_ahead, temperature=options.temperature, mouth_amplitude=options.mouth_amplitude
    )
    return pipeline.motion_from_live_speech(audio, generator, config)
