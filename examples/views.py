"""The 3D side of the library: a view from the side with its depth, a turntable, the tri-plane, and a cut motion.

    python -m examples.views

Writes side.png, depth.png, turntable.webp and again.mp4 into infer_out/views.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from inference.pipeline import TalkingPortrait
from inference.video import DEMO_PERSON
from modules.media.picture_writer import open_output
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import run_command


def from_the_side(talker: TalkingPortrait, folder: Path) -> None:
    """side.png and depth.png: a finished picture from another side is one line, its depth comes with it."""
    view = talker.view(talker.procedural_portrait(DEMO_PERSON), yaw=20)
    Image.fromarray(view.picture).save(folder / "side.png")
    near, far = np.nanmin(view.depth), np.nanmax(view.depth)  # world units; NaN where there is no head
    grey = np.where(view.mask, 255 * (far - view.depth) / (far - near), 0)
    Image.fromarray(grey.astype(np.uint8)).save(folder / "depth.png")


def turntable(talker: TalkingPortrait, folder: Path, frames: int = 40) -> None:
    """turntable.webp: the head looks around."""
    with open_output(folder / "turntable.webp", (talker.size, talker.size)) as animation:
        for view in talker.turntable(talker.procedural_portrait(DEMO_PERSON), frames=frames):
            animation.write(view.picture)


def inside(talker: TalkingPortrait) -> dict[str, float]:
    """What the tri-plane holds at points in space: the head is dense in its middle and the air in front is not."""
    planes = talker.planes(talker.procedural_portrait(DEMO_PERSON))
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.45 * planes.box_size]])
    features, density = planes.features_at(points), planes.density_at(points)
    return {"channels": features.shape[1], "middle": float(density[0]), "in front": float(density[1])}


def a_part_twice(talker: TalkingPortrait, speech: Path, folder: Path, rows: int = 20) -> None:
    """again.mp4: motions are cut and joined like lists; what they know of their pose stays with them."""
    motion = talker.motion_from_speech(speech, torch.Generator().manual_seed(0))
    part = motion[:rows] + motion[:rows]
    with open_output(folder / "again.mp4", (talker.size, talker.size)) as video:
        for frame in talker.frames(talker.procedural_portrait(DEMO_PERSON), part):
            video.write(frame)


def views(folder: Path) -> None:
    """All of them, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    talker = TalkingPortrait.load(DEMO_CHECKPOINT)
    from_the_side(talker, folder)
    turntable(talker, folder)
    print(inside(talker))
    a_part_twice(talker, DEMO_CHECKPOINT / "speech.wav", folder)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 after an error of the user's."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.views",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("infer_out/views"), help="folder for the pictures")
    options = parser.parse_args(arguments)
    return run_command(lambda: views(options.output))


if __name__ == "__main__":
    sys.exit(main())
