"""Make a talking video from one photo and speech, or re-enact a clip.

python -m inference.run                                                   # the embedded person and speech
python -m inference.run --source face.jpg --audio speech.wav --output talk.mp4
python -m inference.run --source face.jpg --driving clip.mp4 --output out.mp4
"""

import argparse
import sys
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from inference.background import load_background
from inference.motion import Motion, natural_pose, periodic_blink, still_pose
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from modules.media.audio import Sound, read_sound
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import VideoWriter
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError, run_command
from modules.system.interrupts import Interrupts

DEMO_PERSON = 900007  # seed of a procedural person that no training saw


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m inference.run",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--source",
        type=Path,
        help="photo of one face, or a portrait file (.safetensors); without it a procedural person",
    )
    parser.add_argument("--face", type=int, help="which face of a photo of several people, from the left, from 0")
    parser.add_argument("--anyway", action="store_true", help="use a photo whose face is covered, or no person's")
    drive = parser.add_mutually_exclusive_group()
    drive.add_argument("--audio", type=Path, help="speech, any audio or video file; without it the demo sentence")
    drive.add_argument("--driving", type=Path, help="clip whose expression, pose and sound are transferred")
    drive.add_argument(
        "--motion",
        type=Path,
        help="motion file: .json or .npz made with --save-motion, or *_coeff_fit_mp.npy of the original",
    )
    parser.add_argument("--sound", type=Path, help="sound to put under --motion")
    parser.add_argument(
        "--pose", default="natural", help="head pose under --audio: natural, still, a clip, or a motion file"
    )
    parser.add_argument("--background", default="photo", help="photo, transparent, a picture, or a colour (#204060)")
    parser.add_argument("--blink", choices=("period", "none"), default="period", help="blinks under --audio")
    parser.add_argument("--mouth-amplitude", type=float, default=0.45, help="how wide the mouth opens, 0 to 1")
    parser.add_argument("--temperature", type=float, default=0.2, help="variety of the lip motion, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same video")
    parser.add_argument(
        "--checkpoint", type=Path, default=DEMO_CHECKPOINT, help="folder with portrait/ and audio2motion/"
    )
    parser.add_argument("--hubert", help="folder or hub name of HuBERT, instead of the one that the checkpoint names")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument(
        "--batch", type=int, help="frames rendered together; more need more memory; without it 1 on a CPU, 4 elsewhere"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("infer_out/talk.mp4"), help=".mp4; .webm or .mov if transparent"
    )
    parser.add_argument(
        "--debug-video", action="store_true", help="source, PNCC, raw render, depth and final picture side by side"
    )
    parser.add_argument("--save-motion", type=Path, help="also write the motion (.json or .npz)")
    return parser.parse_args(arguments)


def make_motion(options: argparse.Namespace, pipeline: TalkingPortrait) -> tuple[Motion, Sound | None]:
    """The motion that the options ask for and the sound that goes with it."""
    generator = torch.Generator().manual_seed(options.seed)
    if options.motion:
        return pipeline.check_motion(Motion.load(options.motion)), read_sound(options.sound) if options.sound else None
    if options.driving:
        return pipeline.motion_from_clip(options.driving), read_sound(options.driving, optional=True)
    audio = options.audio or DEMO_CHECKPOINT / "speech.wav"
    motion = pipeline.motion_from_speech(audio, generator, options.temperature, options.mouth_amplitude)
    frames = len(motion)
    if options.pose == "natural":
        motion = motion.with_pose(*natural_pose(frames, generator))
    elif options.pose == "still":
        motion = motion.with_pose(*still_pose(frames))
    else:
        motion = motion.with_pose(*pipeline.pose_from_file(Path(options.pose), frames))
    if options.blink == "period":
        motion = motion.with_blink(periodic_blink(frames, generator))
    return motion, read_sound(audio, beside_pictures=False)  # as the motion was made from it


def make_portrait(options: argparse.Namespace, pipeline: TalkingPortrait) -> Portrait:
    if options.source is None:
        return pipeline.procedural_portrait(DEMO_PERSON)
    if options.source.suffix == ".safetensors":
        return pipeline.check_portrait(Portrait.load(options.source))
    return pipeline.portrait(options.source, options.face, options.anyway)


def check(options: argparse.Namespace) -> None:
    for name in ("mouth_amplitude", "temperature"):
        if not 0 <= getattr(options, name) <= 2:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give a number from 0 to 1")
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch is {options.batch}; give at least 1")
    transparent = options.background == "transparent"
    suffixes = (".webm", ".mov") if transparent else (".mp4",)
    if options.output.suffix not in suffixes:
        raise UserError(
            f"--output {options.output.name}: use a name that ends in {' or '.join(suffixes)}"
            + (" for a transparent background" if transparent else "")
        )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)

    def body() -> None:
        check(options)
        pipeline = TalkingPortrait.load(options.checkpoint, options.device, options.precision, options.hubert)
        portrait = make_portrait(options, pipeline)
        motion, sound = make_motion(options, pipeline)
        if options.save_motion:
            motion.save(options.save_motion)
        background = load_background(options.background, pipeline.size)
        make_frames = pipeline.debug_frames if options.debug_video else pipeline.frames
        frames = make_frames(portrait, motion, background, options.batch)
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
        if video.note:
            print(f"note: {video.note}", file=sys.stderr)
        print(f"{options.output}: {len(motion)} frames, {len(motion) / FRAME_RATE:.2f} s")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
