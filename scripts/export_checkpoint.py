"""Take what inference needs out of training runs: weights without optimisers, discriminator or history.

    python -m scripts.export_checkpoint --portrait runs/demo/htbsr --output checkpoints/demo

The config is copied in the words of its run: the reader of checkpoints knows those of earlier versions.
"""

import argparse
import sys
from pathlib import Path

from modules.audio.whisper import DEFAULT_WHISPER
from modules.system.checkpoint import find_checkpoint, load_state, read_config, save_checkpoint
from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs

WEIGHT_FILES = {
    "portrait": ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution", "htbsr"),
    "audio2motion": ("audio2motion",),
    "syncnet": ("syncnet",),
}
_SPEECH_KEYS = ("model", "features", "face_model")
CONFIG_KEYS = {"portrait": ("model",), "audio2motion": _SPEECH_KEYS, "syncnet": _SPEECH_KEYS}
LATER_KEYS = ("pitch",)  # which runs of earlier versions lack


def export(run: Path, kind: str, output: Path, half: bool) -> list[str]:
    """Write OUTPUT/KIND from the checkpoint that a run's config selects; returns the names of the exported modules.

    Raises:
        UserError: the run is of another kind, or there is no checkpoint.
    """
    folder = find_checkpoint(run)
    keep_inputs({"--output": output / kind}, {f"--{kind}": folder})
    config = read_config(folder)
    names = [name for name in WEIGHT_FILES[kind] if (folder / f"{name}.safetensors").is_file()]
    absent = [key for key in CONFIG_KEYS[kind] if key not in config]
    if not names or absent:
        raise UserError(f"{folder} is no {kind} checkpoint: it has no {', '.join(absent) or 'weights of that kind'}")
    states = {name: load_state(folder, name) for name in names}
    keys = (*CONFIG_KEYS[kind], *(key for key in LATER_KEYS if key in config))
    save_checkpoint(output / kind, {key: config[key] for key in keys}, states, half=half)
    return names


def copy_whisper(source: Path, output: Path) -> None:
    """Put the Whisper layers that an audio-to-motion checkpoint listens through beside it: OUTPUT/whisper.

    Raises:
        UserError: they are not in `source`.
    """
    target = output / "whisper"
    if target.exists() and target.samefile(source):
        return
    save_checkpoint(target, read_config(source), {"whisper": load_state(source, "whisper")}, half=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.export_checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--portrait", type=Path, help="run of stage 1, 2 or 3")
    parser.add_argument("--audio2motion", type=Path, help="run of the audio-to-motion stage")
    parser.add_argument("--syncnet", type=Path, help="run of the lip-sync expert, which evaluation uses")
    parser.add_argument(
        "--whisper",
        type=Path,
        default=Path(DEFAULT_WHISPER),
        help="Whisper layers of the run's features, copied beside them (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for --checkpoint of inference.run")
    parser.add_argument("--full-precision", action="store_true", help="keep float32 instead of float16")
    options = parser.parse_args(arguments)

    def body() -> None:
        runs = {kind: getattr(options, kind) for kind in WEIGHT_FILES if getattr(options, kind)}
        if not runs:
            raise UserError("nothing to export; give --portrait or --audio2motion")
        for kind, run in runs.items():
            names = export(run, kind, options.output, half=not options.full_precision)
            if read_config(options.output / kind).get("features") == "whisper":
                copy_whisper(options.whisper, options.output)
            print(f"{options.output / kind}: {', '.join(names)}")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
