"""The library on one page: a procedural person says a sentence, then turns the head for a still.

    python -m examples.talk

Writes talk.mp4 and turned.png into infer_out/example. Needs no download, no GPU and less than a minute.
"""

import math
import sys
from pathlib import Path

import torch
from PIL import Image

from inference.motion import Motion, natural_pose, periodic_blink
from inference.pipeline import TalkingPortrait
from inference.video import DEMO_PERSON
from modules.media.audio import read_sound
from modules.media.video_writer import VideoWriter
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import run_command
from modules.system.files import named_file


def talk(speech: Path, folder: Path) -> None:
    """Write talk.mp4, in which a procedural person says `speech`, and turned.png into `folder`."""
    pipeline = TalkingPortrait.load(DEMO_CHECKPOINT)  # the networks of the embedded checkpoint, once

    # A Portrait is all that depends on the photo; pipeline.portrait(Path("face.jpg")) makes one of a real photo. Any
    # number is a procedural person; no training has seen this one.
    portrait = pipeline.procedural_portrait(DEMO_PERSON)

    # A Motion is all that changes from frame to frame: expression, head pose and blinks, 25 rows a second. Speech gives
    # the expression; pose and blinks are drawn from the generator, so that the same seed gives the same video.
    generator = torch.Generator().manual_seed(0)
    motion = pipeline.motion_from_speech(speech, generator)
    motion = motion.with_pose(*natural_pose(len(motion), generator)).with_blink(periodic_blink(len(motion), generator))

    # Frames come one by one, as uint8 [H, W, 3]; memory does not grow with the length of the speech.
    with VideoWriter(folder / "talk.mp4", (pipeline.size, pipeline.size), sound=read_sound(speech)) as video:
        for frame in pipeline.frames(portrait, motion):
            video.write(frame)

    # The head is 3D: the same portrait under another motion, a turn to the side with a neutral face. Euler angles are
    # pitch, yaw and roll in radians, and count from the first row on. Cameras are smoothed over 7 frames, so that a
    # sudden turn needs 8 to arrive.
    length = 8
    euler = torch.zeros(length, 3)
    euler[1:, 1] = math.radians(25)
    turn = Motion(
        expression=torch.zeros(length, 64),
        euler=euler,
        translation=torch.zeros(length, 3),
        blink=torch.zeros(length, 1),
        face_model=motion.face_model,
    )
    *_, still = pipeline.frames(portrait, turn)
    with named_file(folder / "turned.png") as part:
        Image.fromarray(still).save(part, "PNG")
    print(f"{folder / 'talk.mp4'}: {len(motion)} frames; {folder / 'turned.png'}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: talk(DEMO_CHECKPOINT / "speech.wav", Path("infer_out/example"))))
