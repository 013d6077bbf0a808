"""Make a talking video from one photo and speech, or re-enact a clip.

python -m inference.run                                                   # the embedded person and speech
python -m inference.run --source face.jpg --audio speech.wav --output talk.mp4
python -m inference.run --source face.jpg --driving clip.mp4 --output out.mp4
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from inference.options import RENDERERS, RIG_SIZES, check, check_batch_file, note_of_renderer
from inference.signing import add_signing
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError, note, run_command
from modules.system.imports import many_imports


def path(text: str) -> Path | str:
    """A path; nothing stays nothing (as a path it would be the folder), and is refused by `check`."""
    return Path(text) if text else ""


class _Once(argparse.Action):
    """Stores a value, and refuses a second one: argparse would forget the first."""

    before: object = None

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        if self.before is not None:
            raise UserError(f"{self.option_strings[0]} is given twice ({self.before}, {values}); leave one out")
        self.before = values
        setattr(namespace, self.dest, values)


class _LineParser(argparse.ArgumentParser):
    """A parser for the line of a table, whose options replace those of the command, and after which the program goes
    on."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_line(arguments: list[str]) -> argparse.Namespace:
    """`parse` for a line of --batch-file; UserError where `parse` ends the program."""
    return parse(arguments, _LineParser)


def parse(
    arguments: list[str] | None, kind: type[argparse.ArgumentParser] = argparse.ArgumentParser
) -> argparse.Namespace:
    """Read the command line; `given` of the result holds the names of the options that stand on it.

    Raises:
        UserError: an option with a value is given twice.
    """
    options = parser(kind).parse_args(arguments)
    absent = object()
    marked = parser(kind).parse_args(arguments, argparse.Namespace(**dict.fromkeys(vars(options), absent)))
    options.given = {name for name, value in vars(marked).items() if value is not absent}
    return options


def without_batch_file(arguments: list[str] | None) -> list[str]:
    """What stands on the command line beside --batch-file."""
    alone = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    alone.add_argument("--batch-file")
    return alone.parse_known_args(arguments)[1]


def parser(kind: type[argparse.ArgumentParser] = argparse.ArgumentParser) -> argparse.ArgumentParser:
    """All options."""
    result = kind(
        prog="python -m inference.run",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    if kind is not _LineParser:
        result.register("action", None, _Once)
    add_inputs(result)
    add_model(result)
    add_outputs(result)
    return result


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Who is shown, what drives it, and how it moves."""
    parser.add_argument(
        "--source",
        type=path,
        help="photo of one face, or a portrait file (.safetensors); without it a procedural person",
    )
    parser.add_argument("--face", type=int, help="which face of a photo of several people, from the left, from 0")
    parser.add_argument("--anyway", action="store_true", help="use a photo whose face is covered, or no person's")
    drive = parser.add_mutually_exclusive_group()
    drive.add_argument("--audio", type=path, help="speech, any audio or video file; without it the demo sentence")
    drive.add_argument("--driving", type=path, help="clip whose expression, pose and sound are transferred")
    drive.add_argument(
        "--motion",
        type=path,
        help="motion file: .json or .npz made with --save-motion, ARKit curves (.csv), or *_coeff_fit_mp.npy of the "
        "original",
    )
    parser.add_argument(
        "--driving-face", type=int, help="which face of a clip that shows several people, from the left, from 0"
    )
    parser.add_argument("--sound", type=path, help="sound to put under --motion")
    parser.add_argument(
        "--pose",
        default="natural",
        help="head pose under --audio: natural, still, orbit (it looks around), a clip, or a motion file",
    )
    parser.add_argument(
        "--pose-mode",
        choices=("relative", "absolute"),
        default="relative",
        help="to the photo's pose; or the driver's own",
    )
    parser.add_argument("--background", default="photo", help="photo, transparent, a picture, or a colour (#204060)")
    parser.add_argument(
        "--inpainting",
        choices=("smooth", "nearest"),
        default="smooth",
        help="how the background of a photo goes on behind the person; nearest: as the original",
    )
    parser.add_argument("--blink", choices=("period", "model", "none"), default="period", help="blinks under --audio")
    parser.add_argument("--mouth-amplitude", type=float, default=0.45, help="how wide the mouth opens, 0 to 1")
    parser.add_argument("--temperature", type=float, default=0.2, help="variety of the lip motion, 0 to 1")
    parser.add_argument(
        "--look-ahead",
        type=float,
        metavar="SECONDS",
        help="hear as a live session does, which knows so much of the sound to come (docs/live.md); without it all",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same video")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Who draws: which model, where it runs, and how."""
    parser.add_argument(
        "--renderer",
        choices=RENDERERS,
        help="planes: the networks; rig: the photo itself in 3D; without it rig where the checkpoint has a folder rig, "
        "as the embedded one has",
    )
    parser.add_argument(
        "--size",
        type=int,
        choices=RIG_SIZES,
        help="pixels a side under --renderer rig, 512 without it; networks have one size, the embedded ones 256",
    )
    parser.add_argument(
        "--checkpoint", type=path, default=DEMO_CHECKPOINT, help="folder with portrait/ and audio2motion/"
    )
    parser.add_argument("--hubert", help="folder or hub name of HuBERT, instead of the one that the checkpoint names")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, help="CPU threads; without it as many as PyTorch takes, often all")
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "auto"),
        default="float32",
        help="of the networks; auto: bf16 where this machine is faster with it",
    )
    parser.add_argument(
        "--march",
        choices=("full", "band"),
        help="all samples of all rays, or those alone where the head is (faster); without it as the checkpoint says",
    )
    parser.add_argument(
        "--batch", type=int, help="frames rendered together; more need more memory; without it 1 on a CPU, 4 elsewhere"
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    parser.add_argument(
        "--output",
        type=path,
        help="video .mp4 (transparent: .webm, .mov), animation .gif or .webp, still .png or .jpg, or a name without an "
        "ending for a folder of PNGs; without it a name in infer_out/ made from the inputs",
    )
    parser.add_argument("--seconds", type=float, help="only the first seconds, for a look; of a still: its moment")
    parser.add_argument(
        "--debug-video", action="store_true", help="source, PNCC, raw render, depth and final picture side by side"
    )
    parser.add_argument(
        "--batch-file",
        type=path,
        help="table (.csv) of videos, a line each: columns source, audio, driving, output, or any option by its name; "
        "the options beside it hold for all; lines whose output is there are skipped",
    )
    parser.add_argument(
        "--layers",
        type=path,
        metavar="FOLDER",
        help="also write what the frames are made of as PNGs: alpha, depth, colours and more (docs/live.md)",
    )
    parser.add_argument("--mesh", type=path, help="also write the moving head as glTF (.glb), with morph targets")
    parser.add_argument(
        "--save-motion",
        type=path,
        help="also write the motion (.json or .npz; .csv or .arkit.json: as ARKit curves)",
    )
    add_signing(parser, path)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error, 130 after Ctrl-C, 143 after SIGTERM."""

    def body() -> None:
        options = parse(arguments)
        if options.batch_file is not None:
            check_batch_file(options.batch_file)
            from inference.batch import make_batch

            print(make_batch(options.batch_file, parse_line, without_batch_file(arguments), print))
            return
        check(options)
        with many_imports():
            from inference.video import make_video  # takes seconds: a wrong option is answered before

        summary, remark = make_video(options)
        for text in filter(None, (remark, note_of_renderer(options))):
            note(text)
        print(summary)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
