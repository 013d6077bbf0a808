"""Turn the original's checkpoints into ours, and back.

    python -m scripts.convert_checkpoint OFFICIAL_FOLDER_OR_FILE checkpoints/official
    python -m scripts.convert_checkpoint --back checkpoints/official/portrait model_ckpt_steps_100000.ckpt

What a file holds (portrait, head, image_to_plane, audio2motion, syncnet) is seen from its tensors. Files are read
without executing code; unknown, missing or misshapen tensors are refused by name.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules.audio.audio2motion import Audio2MotionConfig
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.syncnet import SyncNetConfig
from modules.official.configs import PORTRAITS, portrait_config
from modules.official.names import identify, official_state, to_official, to_ours
from modules.system.checkpoint import load_state, read_config, save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs, named_file

STEPS = re.compile(r"model_ckpt_steps_(\d+)\.ckpt$")
PORTRAIT_PARTS = ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution", "htbsr")


def official_file(path: Path) -> Path:
    """The checkpoint file that `path` means: itself, or the newest of a folder.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return path
    numbered = sorted((int(match[1]), file) for file in path.glob("*.ckpt") if (match := STEPS.search(file.name)))
    if not numbered:
        raise UserError(f"no checkpoint in {path}; give a .ckpt file or a folder with model_ckpt_steps_N.ckpt")
    return numbered[-1][1]


def _plain_numbers() -> list:
    """NumPy's own numbers, under the names of its old and new versions; trainers store their best score as one."""
    scalar = np.float64().__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "?")}
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def read_official(path: Path) -> Mapping:
    """What a checkpoint file holds, read with weights_only.

    Raises:
        UserError: damaged, incomplete, no checkpoint, or with more in it than tensors and plain values.
    """
    try:
        with torch.serialization.safe_globals(_plain_numbers()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes of a damaged file lead the reader into
        called = re.search(r"Unsupported global: GLOBAL (\S+)|global (\S+) but", str(error))
        if called:
            raise UserError(
                f"{path} asks for {called[1] or called[2]}, which is no tensor and may run code; nothing "
                "was executed; get the file from its authors"
            ) from error
        reason = getattr(error, "strerror", None) or "it is damaged, incomplete, or another kind of file"
        raise UserError(f"{path} cannot be read as a checkpoint: {reason}; download it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, no checkpoint")
    return content


def convert(path: Path, output: Path, kind: str | None = None) -> Path:
    """Write OUTPUT/portrait or OUTPUT/audio2motion or OUTPUT/syncnet from an official file; returns that folder."""
    file = official_file(path)
    state = _official_state(file)
    recognised = identify(state)
    if recognised is None and kind is None:
        raise UserError(f"{file} is of no network known here; its first tensors are {', '.join(list(state)[:3])}")
    network = kind or recognised
    try:
        ours = to_ours(state, network)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    folder = output / ("portrait" if network in PORTRAITS else network)
    keep_inputs({"the output": folder}, {"the checkpoint": file})
    if network in PORTRAITS:
        config = {"model": to_dict(portrait_config(state, network))}
        save_checkpoint(folder, config, by_part(ours))
        return folder
    model = Audio2MotionConfig.full() if network == "audio2motion" else SyncNetConfig.full()
    config = {
        "model": to_dict(model),
        "features": "hubert",
        "pitch": "praat",
        "hubert": DEFAULT_HUBERT,
        "face_model": "bfm",
    }
    save_checkpoint(folder, config, {network: ours})
    return folder


def _official_state(file: Path) -> dict[str, Tensor]:
    content = read_official(file)
    try:
        return official_state(content)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def by_part(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{"renderer.decoder.x": ...} -> {"renderer": {"decoder.x": ...}}."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def convert_back(folder: Path, output: Path) -> None:
    """Write the official form {"state_dict": {"model": ...}} of one of our folders."""
    names = [file.stem for file in sorted(folder.glob("*.safetensors"))]
    if not names:
        raise UserError(f"{folder} holds no *.safetensors; give a folder such as checkpoints/official/portrait")
    if set(names) <= set(PORTRAIT_PARTS):
        model = read_config(folder)["model"]
        network = "portrait" if model["htbsr"] else "head" if model["motion_adapter"] else "image_to_plane"
        state = {f"{name}.{key}": value for name in names for key, value in load_state(folder, name).items()}
    else:
        network, state = names[0], load_state(folder, names[0])
    keep_inputs({"the output": output}, {f"the file of {name}": folder / f"{name}.safetensors" for name in names})
    with named_file(output) as part:
        torch.save({"state_dict": {"model": to_official(state, network)}}, part)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.convert_checkpoint", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="official .ckpt or its folder; with --back one of our folders")
    parser.add_argument("output", type=Path, help="folder for --checkpoint of inference.run; with --back a .ckpt file")
    parser.add_argument(
        "--as",
        dest="kind",
        choices=(*PORTRAITS, "audio2motion", "syncnet"),
        help="insist on this network instead of looking at the tensors",
    )
    parser.add_argument("--back", action="store_true", help="from ours to the original's")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.back and options.kind:
            raise UserError("--as is not used with --back, which looks at the folder; leave it out")
        if options.back:
            convert_back(options.source, options.output)
            print(f"{options.output}")
        else:
            print(convert(options.source, options.output, options.kind))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
