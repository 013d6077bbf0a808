"""Take what inference needs out of training runs: weights without optimisers, discriminator or history.

python -m scripts.export_checkpoint --portrait runs/demo/htbsr --output checkpoints/demo
"""

import argparse
import sys
from pathlib import Path

from modules.audio.whisper import DEFAULT_WHISPER
from modules.system.checkpoint import find_checkpoint
from modules.system.errors import UserError, note, run_command
from modules.system.files import keep_inputs
from tasks.export import WEIGHT_FILES, export, shows_raw_render


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.export_checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("--portrait", type=Path, help="run of stage 1, 2 or 3, or a checkpoint with a folder portrait")
    parser.add_argument("--audio2motion", type=Path, help="the same of audio to motion")
    parser.add_argument("--syncnet", type=Path, help="the same of the lip-sync expert, which evaluation uses")
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
            keep_inputs({"--output": options.output / kind}, {f"--{kind}": find_checkpoint(run, (kind,))})
            names = export(run, kind, options.output, not options.full_precision, options.whisper)
            print(f"{options.output / kind}: {', '.join(names)}")
            if kind == "portrait" and shows_raw_render(options.output):
                note(f"the losses of {run} are of the raw render alone: the checkpoint shows that, upscaled")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
