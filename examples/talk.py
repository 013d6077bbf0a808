"""The library on one page: somebody says a sentence, then turns the head for a still.

    python -m examples.talk
    python -m examples.talk --source me.jpg --audio hello.wav --output infer_out/me

Writes talk.mp4 and turned.png into infer_out/example. Needs no download, no GPU and less than a minute.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from PIL import Image

from inference.motion import Motion
from inference.options import RIG_SIZE
from inference.pipeline import TalkingPortrait
from inference.video import DEMO_PERSON
from modules.media.audio import read_sound
from modules.media.picture_writer import open_output
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import run_command
from modules.system.files import named_file


def talk(source: Path | int, speech: Path, folder: Path) -> None:
    """Write talk.mp4, in which somebody says `speech`, and turned.png into `folder`.

    Args:
        source: a photo, or the seed of a procedural person.
    """
    talker = TalkingPortrait.load(DEMO_CHECKPOINT)

    # A painter is all that depends on the photo. It draws as `inference.run` does: with the embedded checkpoint the
    # photo itself in 3D, 512 pixels a side; with renderer="planes" the networks of the paper's method, in their size.
    painter = talker.painter(source)

    # A Motion is all that changes from frame to frame: expression, head pose and blinks, 25 rows a second. This one is
    # that of `inference.run --audio`; the same seed gives the same video.
    motion = talker.speaking_motion(speech, seed=0)

    # Frames come one by one, as uint8 [H, W, 3]; memory does not grow with the length of the speech.
    with open_output(folder / "talk.mp4", (RIG_SIZE, RIG_SIZE), sound=read_sound(speech)) as video:
        for frame in talker.frames(painter, motion):
            video.write(frame)

    # Under the networks the head is 3D: their portrait under another motion, a turn to the side with a neutral face.
    # Euler angles are pitch, yaw and roll in radians, and count from the first row on. Cameras are smoothed over 7
    # frames, so that a sudden turn needs 8 to arrive.
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
    *_, still = talker.frames(talker.painter(source, "planes"), turn)
    with named_file(folder / "turned.png") as part:
        Image.fromarray(still).save(part, "PNG")
    print(f"{folder / 'talk.mp4'}: {len(motion)} frames; {folder / 'turned.png'}")


def photo_or_seed(text: str) -> Path | int:
    """A number is the seed of a procedural person, anything else a photo."""
    return int(text) if text.isdecimal() else Path(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 after an error of the user's."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.talk",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--source",
        type=photo_or_seed,
        default=DEMO_PERSON,
        help="photo of one face; a number: the seed of a procedural person",
    )
    parser.add_argument("--audio", type=Path, default=DEMO_CHECKPOINT / "speech.wav", help="speech, any sound file")
    parser.add_argument("--output", type=Path, default=Path("infer_out/example"), help="folder for the pictures")
    options = parser.parse_args(arguments)
    return run_command(lambda: talk(options.source, options.audio, options.output))


if __name__ == "__main__":
    sys.exit(main())
