"""One name for all commands, from any folder, after `pip install -e .`: each is passed on to the one it stands for.

real3d talk face.jpg speech.wav --output talk.mp4      # inference.run --source face.jpg --audio speech.wav --output ...
real3d talk face.jpg clip.mp4                          # inference.run --source face.jpg --driving clip.mp4
real3d --help                                          # python -m scripts.real3d, where it is not installed
"""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from modules.system.assets import DEMO_CHECKPOINT, shipped
from modules.system.errors import UserError, run_command

_MOTIONS = (".json", ".npz", ".npy", ".csv")


@dataclass(frozen=True)
class Command:
    """Another name for a command.

    Attributes:
        module: what `python -m` would run.
        usage: its arguments, in short.
        what: what it does.
        takes_config: whether its first argument is a file, which may lie in this repository.
    """

    module: str
    usage: str
    what: str
    takes_config: bool = False


COMMANDS = {
    "talk": Command("inference.run", "[FACE [SPEECH_OR_CLIP]] ...", "make a talking video, or re-enact a clip"),
    "app": Command("inference.app", "...", "the same as a page in the browser"),
    "serve": Command("inference.serve", "...", "the server, for other programs"),
    "verify": Command("inference.verify", "FILE ...", "what a picture or video says of where it comes from"),
    "prepare": Command("data_gen.run", "CONFIG ...", "make training data", True),
    "train": Command("tasks.run", "CONFIG ...", "train a stage", True),
    "evaluate": Command("tasks.evaluate", "CONFIG ...", "measure a checkpoint", True),
}


def usage() -> str:
    """All commands, a line each."""
    rows = [(f"real3d {name} {command.usage}", command) for name, command in COMMANDS.items()]
    width = max(len(start) for start, _ in rows)
    lines = [f"  {start:{width}}  {command.what}; python -m {command.module}" for start, command in rows]
    return "\n".join(["usage:", *lines, "Each tells its options after --help."])


def arguments_of(name: str, arguments: list[str]) -> list[str]:
    """What the command behind a name is given.

    Raises:
        UserError: a driver of `talk` that cannot be read.
    """
    if name == "talk":
        return _talk(arguments)
    if COMMANDS[name].takes_config and arguments:
        config = shipped(Path(arguments[0]))
        return [str(config) if config.is_file() else arguments[0], *arguments[1:]]
    return arguments


def _talk(arguments: list[str]) -> list[str]:
    """The first two arguments, if they are no options, as those of `inference.run`."""
    count = next((number for number, text in enumerate(arguments) if text.startswith("-")), len(arguments))
    given, options = arguments[: min(count, 2)], arguments[min(count, 2) :]
    names = ["--source"] if len(given) < 2 else ["--source", _driver(Path(given[1]))]
    return [text for pair in zip(names, given) for text in pair] + options


def _driver(path: Path) -> str:
    """Whether a file drives by its motion, its pictures, or its sound."""
    if path.suffix.lower() in _MOTIONS:
        return "--motion"
    from modules.media.container import open_media, picture_track  # takes a while: not for the help

    with open_media(path) as container:
        return "--audio" if picture_track(container) is None else "--driving"


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names, with the others; the exit code is that command's."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print(usage())
        return 0
    made: list[list[str]] = []

    def body() -> None:
        if not DEMO_CHECKPOINT.is_dir():
            raise UserError(
                "this install has no checkpoints and configs, which lie in the repository; get that, and install it "
                "from there with pip install -e ."
            )
        if name not in COMMANDS:
            near = get_close_matches(name, COMMANDS, 1)
            raise UserError(
                f"there is no command {name}; "
                + (f"did you mean {near[0]}?" if near else f"use {', '.join(COMMANDS)} or --help")
            )
        made.append(arguments_of(name, rest))

    return run_command(body) or import_module(COMMANDS[name].module).main(made[0])


if __name__ == "__main__":
    sys.exit(main())
