"""The options of `inference.run`: which acts with which inputs, and whatever can be refused before anything is loaded.

Nothing here is slow to import: a wrong option is answered at once.
"""

import argparse
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import ImageColor

from inference.signing import check_signing
from modules.media.endings import ANIMATIONS, LONGEST_ANIMATION, OPAQUE, STILLS, VIDEO, WITH_ALPHA
from modules.media.picture_kinds import check_clip
from modules.rig.config import draws_by_rig
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.config import load_yaml
from modules.system.errors import UserError
from modules.system.files import keep_inputs
from modules.system.packages import check_package

DEMO_SPEECH = DEMO_CHECKPOINT / "speech.wav"
MOTION_SUFFIXES = (".json", ".npz", ".csv")  # of --save-motion
MESH_SUFFIX = ".glb"
PORTRAIT_SUFFIX = ".safetensors"
LARGEST_SEED = 2**63 - 1
LARGEST_AMOUNT = 2.0  # of --mouth-amplitude and --temperature; above 1 is an exaggeration
LONGEST_LOOK_AHEAD = 10.0  # seconds
POSES = ("natural", "still", "orbit")
BACKGROUNDS = ("photo", "transparent")
RENDERERS = ("planes", "rig")
RIG_SIZES = (256, 512, 1024)  # pixels a side, of --renderer rig; the networks have one size
RIG_SIZE = 512  # without --size
OUTPUT_FOLDER = Path("infer_out")
LONGEST_NAME = 60  # letters of an input's name in that of an output

# The options that act with some inputs alone. Each input has a name (`inputs_of`); all other options act with all.
# fmt: off
ACTS_WITH = {
    "face":            ("a photo",),
    "anyway":          ("a photo",),
    "inpainting":      ("a photo",),
    "sound":           ("--motion",),
    "driving_face":    ("--driving", "--pose FILE"),
    "pose":            ("speech",),
    "pose_mode":       ("--driving", "--motion", "--pose FILE", "--pose motion"),
    "blink":           ("speech",),
    "mouth_amplitude": ("speech",),
    "temperature":     ("speech",),
    "look_ahead":      ("speech",),
    "seed":            ("speech",),
    "hubert":          ("speech",),
    "size":            ("--renderer rig",),
}
# fmt: on
INSTEAD = {  # what to do in place of an option that would not be used
    "sound": "the video has the sound of --audio or --driving",
    "face": "it chooses one of the people of a photo, which --source gives",
    "anyway": "it is about a photo, which --source gives",
    "inpainting": "it is for the background of a photo, which --source gives",
    "pose_mode": "the head moves about the photo's pose unless --driving, --motion or --pose FILE gives another one",
    "driving_face": "it chooses one of the people of a clip, which --driving or --pose gives",
    "size": "the planes have the size of the checkpoint's networks; --renderer rig draws any",
}
NOT_WITH_RIG = {  # what acts with the planes alone, and what the rig does in its place
    "pose_mode": "the head always starts in the photo's pose",
    "inpainting": "it continues the background in its own way",
    "precision": "it has no networks and computes in float32",
    "march": "it casts no rays",
}


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done or would not be used; name the output and the renderer where none was given.

    Args:
        options: of `inference.run.parse`; `given` holds the names of those that stand on the command line.
    Raises:
        UserError: naming the option.
    """
    check_given(options)
    if options.output is None:
        options.output = default_output(options)
    _check_values(options)
    if options.renderer is None:
        options.renderer = default_renderer(options)
    _check_use(options)
    _check_files(options)
    check_signing(options, options.output)
    if inputs_of(options)["speech"]:
        _check_ears(options)


def check_batch_file(table: Path | str) -> None:
    """Refuse a table of videos that is not there."""
    if str(table) == "":
        raise UserError("--batch-file is empty; give the name of a table (.csv)")
    if not os.path.isfile(table):
        raise UserError(f"--batch-file {table}: there is no such file")


def check_given(options: argparse.Namespace) -> None:
    """Refuse an option without a value, as of `--source "$PHOTO"` where that is not set."""
    for name in sorted(options.given):
        if str(getattr(options, name)) == "":
            raise UserError(f"{_called(name)} is empty; give it a value, or leave it out")


def default_output(options: argparse.Namespace) -> Path:
    """The name of the output, made from those of the inputs: infer_out/face_hello.mp4; talk.mp4 without any.

    A part, another size, background, checkpoint or renderer than the usual one has a name of its own, so that a look
    does not replace the video: face_hello_2s_256_beach.mp4, face_hello_own.mp4, face_hello_planes.mp4.
    """
    who = options.source
    what = options.driving or options.motion or options.audio
    suffix = ".webm" if options.background == "transparent" else VIDEO
    names = [path.stem[:LONGEST_NAME] if path else other for path, other in ((who, "person"), (what, "talk"))]
    names = names if who or what else ["talk"]
    if options.seconds is not None:
        names.append(f"{options.seconds:g}s")
    if options.size not in (None, RIG_SIZE):
        names.append(str(options.size))
    if options.background not in BACKGROUNDS:
        names.append(Path(options.background).stem.strip("#")[:LONGEST_NAME])
    if os.path.realpath(options.checkpoint) != os.path.realpath(DEMO_CHECKPOINT):
        names.append(os.path.basename(os.path.realpath(options.checkpoint))[:LONGEST_NAME])
    if options.renderer not in (None, default_renderer(options)):
        names.append(options.renderer)
    return OUTPUT_FOLDER / f"{'_'.join(names)}{suffix}"


def default_renderer(options: argparse.Namespace) -> str:
    """Who draws: the rig if the checkpoint has settings for it, unless a portrait of the planes is given."""
    return "planes" if _is_portrait(options.source) or not draws_by_rig(options.checkpoint) else "rig"


def note_of_renderer(options: argparse.Namespace) -> str:
    """That networks drew where nobody chose them, and what else could; empty where somebody did, or the rig draws.

    Args:
        options: after `check`.
    """
    chosen = {"renderer", *NOT_WITH_RIG} & options.given or _is_portrait(options.source)
    if chosen or options.renderer == "rig":
        return ""
    return (
        f"{options.checkpoint} has no folder rig, so its networks drew, in their own size; --renderer rig draws the "
        f"photo itself in 3D, {RIG_SIZE} pixels a side"
    )


def inputs_of(options: argparse.Namespace) -> dict[str, bool]:
    """Which inputs a video is made of, by the names in `ACTS_WITH`."""
    source, speech = options.source, not (options.driving or options.motion)
    return {
        "a photo": source is not None and not _is_portrait(source),
        "speech": speech,
        "--driving": options.driving is not None,
        "--motion": options.motion is not None,
        "--renderer rig": options.renderer == "rig",
        "--pose FILE": speech and options.pose not in POSES and not _is_motion(options.pose),
        "--pose motion": speech and _is_motion(options.pose),
    }


def _check_values(options: argparse.Namespace) -> None:
    for name in ("mouth_amplitude", "temperature"):
        if not 0 <= getattr(options, name) <= LARGEST_AMOUNT:
            raise UserError(f"{_called(name)} is {getattr(options, name)}; give a number from 0 to 1")
    if options.look_ahead is not None and not 0 <= options.look_ahead <= LONGEST_LOOK_AHEAD:
        raise UserError(f"--look-ahead is {options.look_ahead}; give seconds from 0 to {LONGEST_LOOK_AHEAD:g}")
    if options.look_ahead is not None and options.blink == "model":
        raise UserError(
            "--blink model needs the whole speech, of which --look-ahead hears a part; leave one of them out"
        )
    if not 0 <= options.seed <= LARGEST_SEED:
        raise UserError(f"--seed is {options.seed}; give a whole number from 0 to {LARGEST_SEED}")
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        raise UserError(f"--seconds is {options.seconds}; give a positive number")
    for name, least in (("batch", 1), ("threads", 1), ("face", 0), ("driving_face", 0)):
        if getattr(options, name) is not None and getattr(options, name) < least:
            raise UserError(f"{_called(name)} is {getattr(options, name)}; give at least {least}")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", options.device):
        raise UserError(f"--device {options.device}: there is no such device; use auto, cpu, cuda, cuda:N or mps")
    _check_outputs(options)


def _check_outputs(options: argparse.Namespace) -> None:
    if str(options.output) == "-":
        raise UserError("--output -: a video is written to a file, not to a pipe; give a name such as talk.mp4")
    transparent = options.background == "transparent"
    suffixes, suffix = WITH_ALPHA if transparent else OPAQUE, options.output.suffix.lower()
    if suffix not in suffixes:
        raise UserError(
            f"--output {options.output.name}: use a name that ends in {', '.join(filter(None, suffixes))}"
            + (" for a transparent background" if transparent else "")
            + ", or one without an ending for a folder of pictures"
        )
    if suffix in ANIMATIONS and (options.seconds or 0) > LONGEST_ANIMATION:
        raise UserError(f"--output {options.output.name}: an animation has at most {LONGEST_ANIMATION:g} seconds")
    if suffix not in STILLS and options.output.is_dir() and (suffix or any(options.output.iterdir())):
        what = "is a folder; give the name of a file to write" if suffix else "is a folder with files; give a new name"
        raise UserError(f"--output {options.output} {what}")
    if options.save_motion and options.save_motion.suffix.lower() not in MOTION_SUFFIXES:
        raise UserError(f"--save-motion {options.save_motion.name}: use a name that ends in .json, .npz or .csv")
    if options.mesh and options.mesh.suffix.lower() != MESH_SUFFIX:
        raise UserError(f"--mesh {options.mesh.name}: use a name that ends in {MESH_SUFFIX}")
    if options.layers and os.path.exists(options.layers):
        if not os.path.isdir(options.layers) or any(options.layers.iterdir()):
            raise UserError(f"--layers {options.layers} is there and not an empty folder; give a new name")
    if options.layers and options.debug_video:
        raise UserError("--layers are those of the frames, not of --debug-video; leave one of them out")
    if transparent and options.debug_video:
        raise UserError("--debug-video shows all pictures side by side, without --background transparent; choose one")


def _check_use(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing with these inputs."""
    inputs = inputs_of(options)
    for name, needed in ACTS_WITH.items():
        if name not in options.given or any(inputs[one] for one in needed):
            continue
        if name in INSTEAD:
            raise UserError(f"{_called(name)} is not used here; {INSTEAD[name]}; leave it out")
        driver = "--driving" if inputs["--driving"] else "--motion"
        raise UserError(f"{_called(name)} is for speech and is not used with {driver}; leave one of them out")
    if inputs["--renderer rig"]:
        _check_rig(options)


def _check_rig(options: argparse.Namespace) -> None:
    for name, reason in NOT_WITH_RIG.items():
        if name in options.given:
            instead = (
                "leave one of them out" if "renderer" in options.given else "leave it out, or add --renderer planes"
            )
            raise UserError(f"{_called(name)} is not used with --renderer rig: {reason}; {instead}")
    if _is_portrait(options.source):
        raise UserError(f"--renderer rig draws from the photo itself; give that with --source, not {options.source}")


def _check_files(options: argparse.Namespace) -> None:
    """What is read is there, what is written can be, and nothing is both."""
    for option, path in _read(options).items():
        if os.path.isdir(path):
            raise UserError(f"{option} {path} is a folder; give a file")
        if not os.path.exists(path):
            raise UserError(f"{option} {path}: there is no such file")
        if not os.access(path, os.R_OK):
            raise UserError(f"{option} {path} may not be read; check its permissions")
        if option == "--driving" or option == "--pose" and not _is_motion(str(path)):
            check_clip(path)
    if not os.path.exists(options.checkpoint):
        raise UserError(f"--checkpoint {options.checkpoint}: there is no such folder")
    if options.background not in BACKGROUNDS and not os.path.exists(options.background):
        _check_colour(options.background)
    outputs = written(options)
    hubert = {f"a file of --hubert {options.hubert}": path for path in _jsons(options.hubert)}
    keep_inputs(outputs, {**_read(options), **hubert})
    for option, path in outputs.items():
        if path is not None:
            _check_writable(option, path)


def written(options: argparse.Namespace) -> dict[str, Path | None]:
    """The files and folders that are written, by option; None: not asked for."""
    return {
        "--output": options.output,
        "--save-motion": options.save_motion,
        "--layers": options.layers,
        "--mesh": options.mesh,
    }


def _read(options: argparse.Namespace) -> dict[str, Path]:
    """The files that are read, by option."""
    names = ("source", "audio", "driving", "motion", "sound", "sign_key", "sign_cert")
    named = {_called(name): getattr(options, name) for name in names}
    if options.pose not in POSES:
        named["--pose"] = Path(options.pose)
    if options.background not in BACKGROUNDS and os.path.exists(options.background):
        named["--background"] = Path(options.background)
    return {option: path for option, path in named.items() if path is not None}


def _jsons(folder: str | None) -> Iterator[Path]:
    return Path(folder).glob("*.json") if folder and os.path.isdir(folder) else iter(())


def _check_colour(text: str) -> None:
    try:
        colour = ImageColor.getrgb(text)
    except ValueError as error:
        raise UserError(
            f"--background {text}: no such picture and no such colour; give photo, transparent, "
            "a picture file, or a colour like #204060"
        ) from error
    if len(colour) > 3:
        raise UserError(f"--background {text}: a colour has no transparency here; give one like #204060")


def _check_writable(option: str, path: Path) -> None:
    if os.path.isdir(path) and path.suffix:
        raise UserError(f"{option} {path} is a folder; give the name of a file to write")
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not os.path.isdir(folder):
        raise UserError(f"{option} {path} cannot be written ({folder} is a file); choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path} cannot be written (no permission in {folder}); choose another place")


def _check_ears(options: argparse.Namespace) -> None:
    """Refuse speech for a checkpoint that cannot listen, and a HuBERT for one that listens to something else."""
    folder = options.checkpoint / "audio2motion"
    if not os.path.isdir(options.checkpoint / "portrait"):
        return  # no checkpoint of ours; the reader of checkpoints says what to do
    if not os.path.isdir(folder):
        raise UserError("the checkpoint has no folder audio2motion: it cannot listen; give --driving or --motion")
    config = load_yaml(folder / "config.yaml")
    if options.hubert is not None and config.get("features") != "hubert":
        raise UserError(
            f"--hubert: {options.checkpoint} listens to {config.get('features')}, not to HuBERT; leave it out"
        )
    if options.blink == "model" and config.get("model", {}).get("blink") is False:
        raise UserError(f"--blink model: {options.checkpoint} has no blinks among its conditions; use period or none")
    if config.get("pitch") == "world":
        check_package("pyworld", f"{options.checkpoint} hears the pitch of WORLD and", "give --driving or --motion")


def _is_portrait(source: Path | None) -> bool:
    return source is not None and source.suffix.lower() == PORTRAIT_SUFFIX


def _called(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_motion(pose: str) -> bool:
    return Path(pose).suffix.lower() in (*MOTION_SUFFIXES, ".npy")
