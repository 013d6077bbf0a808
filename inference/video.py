"""The video that the options of `inference.run` ask for: portrait, motion and background, rendered and written."""

import argparse
import sys
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from inference.background import load_background
from inference.motion import Motion, natural_pose, periodic_blink, still_pose
from inference.options import DEMO_SPEECH, PORTRAIT_SUFFIX
from inference.pipeline import NO_PROCEDURAL, TalkingPortrait
from inference.portrait import Portrait
from inference.rig import RigPainter, procedural_rig_photo, rig_photo
from modules.media.audio import Sound, read_sound
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import VideoWriter
from modules.rig.rig import RigPhoto
from modules.system.errors import UserError
from modules.system.interrupts import Interrupts

RIG_SIZE = 512  # pixels a side, without --size
DEMO_PERSON = 900007  # seed of a procedural person that no training saw


def make_video(options: argparse.Namespace) -> tuple[str, str | None]:
    """Make and write what the options, which `inference.options.check` has seen, ask for.

    Returns:
        Where it is and how long, in one line; and something the user should know, or None.
    Raises:
        UserError: an input cannot be used, or the video cannot be written.
    """
    pipeline = TalkingPortrait.load(
        options.checkpoint, options.device, options.precision, options.hubert, options.march
    )
    rig = options.renderer == "rig"
    if options.background != "photo" and pipeline.config.stage < 3 and not rig:
        raise UserError(
            f"--background is for checkpoints of stage 3; {options.checkpoint} is of stage {pipeline.config.stage}, "
            "which draws the head alone"
        )
    size = (options.size or RIG_SIZE) if rig else pipeline.size
    background = load_background(options.background, size)
    photo = make_rig_photo(options, pipeline, size) if rig else make_portrait(options, pipeline)
    motion, sound = make_motion(options, pipeline)
    if options.save_motion:
        motion.save(options.save_motion)
    if isinstance(photo, RigPhoto):
        painter = RigPainter(photo, pipeline.face_model, size, pipeline.device)
        make_frames = painter.debug_frames if options.debug_video else painter.frames
        frames = make_frames(motion, background, options.batch or pipeline.batch, pipeline.workers)
    else:
        make_frames = pipeline.debug_frames if options.debug_video else pipeline.frames
        frames = make_frames(photo, motion, background, options.batch, options.pose_mode)
    first = next(frames)
    progress = tqdm(chain([first], frames), total=len(motion), unit="frame", disable=not sys.stderr.isatty())
    with (
        Interrupts() as interrupts,
        VideoWriter(options.output, size=first.shape[1::-1], alpha=first.shape[2] == 4, sound=sound) as video,
    ):
        for frame in progress:
            interrupts.check()
            video.write(frame)
        interrupts.check()
    chosen = f", networks in {str(pipeline.dtype).removeprefix('torch.')}" if options.precision == "auto" else ""
    return f"{options.output}: {len(motion)} frames, {len(motion) / FRAME_RATE:.2f} s{chosen}", video.note


def make_motion(options: argparse.Namespace, pipeline: TalkingPortrait) -> tuple[Motion, Sound | None]:
    """The motion that the options ask for and the sound that goes with it."""
    generator = torch.Generator().manual_seed(options.seed)
    if options.motion:
        return pipeline.check_motion(Motion.load(options.motion)), read_sound(options.sound) if options.sound else None
    if options.driving:
        return pipeline.motion_from_clip(options.driving, options.driving_face), read_sound(
            options.driving, optional=True
        )
    audio = options.audio or DEMO_SPEECH
    motion = pipeline.motion_from_speech(
        audio, generator, options.temperature, options.mouth_amplitude, options.blink == "model"
    )
    frames = len(motion)
    if options.pose == "natural":
        motion = motion.with_pose(*natural_pose(frames, generator))
    elif options.pose == "still":
        motion = motion.with_pose(*still_pose(frames))
    else:
        motion = motion.with_pose(*pipeline.pose_from_file(Path(options.pose), frames, options.driving_face))
    if options.blink == "period":
        motion = motion.with_blink(periodic_blink(frames, generator))
    return motion, read_sound(audio, beside_pictures=False)  # as the motion was made from it


def make_rig_photo(options: argparse.Namespace, pipeline: TalkingPortrait, size: int) -> RigPhoto:
    """What the rig needs of the photo or person that the options ask for."""
    if options.source is not None:
        return rig_photo(options.source, pipeline.face_model, size, options.face, options.anyway)
    if pipeline.face_model.name != "procedural":
        raise UserError(NO_PROCEDURAL)
    return procedural_rig_photo(DEMO_PERSON, pipeline.face_model, size)


def make_portrait(options: argparse.Namespace, pipeline: TalkingPortrait) -> Portrait:
    """The portrait of the photo, file or person that the options ask for."""
    if options.source is None:
        return pipeline.procedural_portrait(DEMO_PERSON)
    if options.source.suffix.lower() == PORTRAIT_SUFFIX:
        return pipeline.check_portrait(Portrait.load(options.source))
    return pipeline.portrait(options.source, options.face, options.inpainting, options.anyway)
